"""Results written as HTML, Markdown and JUnit XML: files that stand alone and can be made again at any time."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from asyncload_lib.errors import ReportError, ResultError
from asyncload_lib.report.charts import drawings
from asyncload_lib.report.culprits import Culprit
from asyncload_lib.report.junit import render_junit
from asyncload_lib.report.text import clean, markdown_code, markdown_fence, markdown_text
from asyncload_lib.report.view import build
from asyncload_lib.results.files import load, write_atomic
from asyncload_lib.results.names import report_path

__all__ = ["TEMPLATES", "render_all", "render_html", "render_markdown"]

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"

Results = Mapping[str, Any]


def _environment(**more: Any) -> Environment:
    """Autoescape is on by word: `select_autoescape` does not know the ending `.html.j2`."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **more,
    )


@cache
def _html_environment() -> Environment:
    return _environment()


@cache
def _markdown_environment() -> Environment:
    """Every expression is escaped for Markdown by `finalize`; autoescape makes macros give markup that passes it."""
    environment = _environment(finalize=markdown_text, keep_trailing_newline=True)
    environment.filters["code"] = markdown_code
    environment.filters["excerpt"] = _excerpt
    return environment


def _excerpt(culprit: Culprit) -> Markup:
    return markdown_fence(
        [f"{'>' if line.is_blocking else ' '} {line.number:>5}  {line.text}" for line in culprit.excerpt]
    )


def render_html(results: Results) -> str:
    """Render one offline HTML page with its charts inside."""
    charts = defaultdict(Markup, {place: Markup(svg) for place, svg in drawings(results).items()})
    return _html_environment().get_template("report.html.j2").render(report=build(results), charts=charts)


def render_markdown(results: Results) -> str:
    """Render Markdown for a pull request or a step summary."""
    text = _markdown_environment().get_template("report.md.j2").render(report=build(results))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


_FORMATS: dict[str, Callable[[Results], str]] = {"md": render_markdown, "html": render_html, "xml": render_junit}


def _is_latest(results: Results, directory: Path) -> bool:
    try:
        run: Mapping[str, Any] = load(directory / "latest.json")["run"]
    except ResultError:  # none, or nobody's
        return True
    return bool(run.get("id") == results["run"].get("id"))


def render_all(results: Results, directory: Path, timestamp: str, *, latest: bool = True) -> Iterator[tuple[str, Path]]:
    """Write every format into `directory`, then its `latest` copy; yield ending (`md`, `html`, `xml`) and path of each.

    `timestamp`: YYYYMMDD_HHMMSS, part of the names. `latest`: only while `latest.json` is not of another run, which
    ended meanwhile: the four belong together. Each file appears whole or not at all, and a timestamped file
    that exists already is never replaced. A format that fails does not prevent the others: ReportError at the end
    names every one that failed.
    """
    written: dict[str, Path] = {}
    problems: list[str] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ReportError(f"{directory}: cannot be made a directory: {problem.strerror or problem}") from problem
    for ending, render in _FORMATS.items():
        path = report_path(directory, timestamp, ending)
        try:
            text = render(results)
            write_atomic(path, text)
        except (FileExistsError, ReportError) as problem:  # these name the file
            problems.append(clean(str(problem), 300))
        except Exception as problem:  # a report that cannot be written must not cost the others
            problems.append(f"{path}: {clean(f'{type(problem).__name__}: {problem}', 300)}")
        else:
            written[ending] = path
            yield ending, path
    for ending, path in written.items() if latest and _is_latest(results, directory) else ():
        try:
            write_atomic(directory / f"latest.{ending}", path.read_text("utf-8"), overwrite=True)
        except (OSError, ReportError) as problem:
            problems.append(clean(str(problem), 300))
    if problems:
        raise ReportError("\n".join(problems))
