import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

from asyncload_lib.errors import ReportError
from asyncload_lib.report import render
from asyncload_lib.report.render import TEMPLATES, render_all, render_html, render_markdown
from asyncload_lib.results.files import dump
from tests.browser import document_of, needs_browser
from tests.report.cases import CASES, Page, markdown_tables, page_of_case
from tests.results.sample import sample_results

STAMP = "20260131_120000"
REPORTS = {ending: f"async_load_test_report_{STAMP}.{ending}" for ending in ("md", "html", "xml")}


@pytest.fixture
def _without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of what a report takes is the drawing, which changes nothing about its files."""
    monkeypatch.setattr(render, "drawings", lambda _: {})


def test_every_format_and_its_latest_copy_are_written(tmp_path: Path) -> None:
    written = dict(render_all(sample_results(), tmp_path / "deep" / "er", STAMP))
    assert {ending: path.name for ending, path in written.items()} == REPORTS
    for ending, path in written.items():
        assert path.with_name(f"latest.{ending}").read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "deep" / "er").iterdir())) == 6  # no draft is left behind


@pytest.mark.usefixtures("_without_charts")
def test_a_written_report_is_never_replaced_and_latest_always_is(tmp_path: Path) -> None:
    dict(render_all(CASES["failing"](), tmp_path, STAMP))
    before = (tmp_path / REPORTS["md"]).read_text("utf-8")
    with pytest.raises(ReportError, match="exists already"):
        dict(render_all(sample_results(), tmp_path, STAMP))
    assert (tmp_path / REPORTS["md"]).read_text("utf-8") == before
    dict(render_all(sample_results(), tmp_path, "20260131_120001"))
    assert (tmp_path / "latest.md").read_text("utf-8") != before


@pytest.mark.usefixtures("_without_charts")
def test_the_latest_copies_are_all_of_one_run(tmp_path: Path) -> None:
    results, newer = sample_results(), sample_results()
    newer["run"]["id"] = "20260131-120009-abcdef"
    dump(results, tmp_path / "latest.json")
    dict(render_all(results, tmp_path, STAMP))
    assert (tmp_path / "latest.md").read_bytes() == (tmp_path / REPORTS["md"]).read_bytes()
    dump(newer, tmp_path / "latest.json", overwrite=True)  # another run has ended while this one is drawn
    dict(render_all({**results, "criteria": []}, tmp_path, "20260131_120001"))
    assert (tmp_path / "latest.md").read_bytes() == (tmp_path / REPORTS["md"]).read_bytes()


def test_one_format_that_fails_costs_none_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(results: object) -> str:
        raise jinja2.TemplateSyntaxError("unexpected '}'", 3)

    monkeypatch.setitem(render._FORMATS, "html", broken)
    with pytest.raises(ReportError) as caught:
        dict(render_all(sample_results(), tmp_path, STAMP))
    assert str(caught.value).startswith(f"{tmp_path / REPORTS['html']}: TemplateSyntaxError")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [REPORTS["md"], REPORTS["xml"], "latest.md", "latest.xml"]
    )


@pytest.mark.usefixtures("_without_charts")
def test_a_full_disk_is_told_of_once_for_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError) as caught:
        dict(render_all(sample_results(), tmp_path, STAMP))
    assert str(caught.value).splitlines() == [
        f"{tmp_path / name}: cannot be written: No space left on device" for name in REPORTS.values()
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for directory, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "in", "Not a directory")):
        with pytest.raises(ReportError, match=f"^{directory}: cannot be made a directory: {why}$"):
            dict(render_all(sample_results(), directory, STAMP))


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_whole_offline_and_small(case: str) -> None:
    text = page_of_case(case)
    page = Page(text)
    assert len(text.encode()) < 2_000_000
    assert not page._open, "every tag that was opened is closed"
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & {tag for tag, _ in page.tags}
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    references = [
        value or "" for _, a in page.tags for name, value in a.items() if name in ("href", "src", "xlink:href")
    ]
    assert all(reference.startswith("#") for reference in references)
    targets = {a["id"] for _, a in page.tags if "id" in a}
    assert {reference[1:] for reference in references} <= targets


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            "without_baseline",
            "No blocking baseline was measured for 50 Concurrent Chat Requests (HTTP), 100 Concurrent",
        ),
        ("free_run", "No criteria were set: nothing was judged."),
        ("empty", "No scenario has data."),
        ("nothing_answered", "No data: no request of this phase has a latency."),
        ("nothing_answered", "No event loop was watched: whether one was blocked is unknown."),
    ],
)
def test_what_is_missing_is_said(case: str, words: str) -> None:
    assert words in Page(page_of_case(case)).text


def test_a_run_of_which_nothing_was_asked_has_not_passed() -> None:
    results = CASES["not_judged"]()
    page, told = page_of_case("not_judged"), render_markdown(results)
    assert '<div class="banner none">' in page
    assert "<h1>NOT EVALUATED</h1>" in page
    assert "# ○ NOT EVALUATED: " in told


def test_the_culprit_is_named_with_its_line() -> None:
    text = page_of_case("failing")
    assert '<code class="place">demo/app.py:88</code> <code>time.sleep(model_time_s)</code>' in text
    assert '<span class="line blocking"><span class="number">▶ 88</span>        time.sleep(model_time_s)' in text
    assert ">    88          time.sleep(model_time_s)" in render_markdown(CASES["failing"]())


WIDER_THAN_THE_PAGE = """<script>document.title = [...document.querySelectorAll(".scroll")]
.filter(box => box.scrollWidth > box.clientWidth).map(box => box.getAttribute("aria-label")).join("; ")</script>"""


@needs_browser
def test_no_table_is_cut_off_on_a_screen_of_1280_points(tmp_path: Path) -> None:
    results = sample_results()
    worker = {**results["workers"][0], "clock_offset_s": 0.00123, "note": "its last report was 12.1 s before the end"}
    names = [f"bench-load-{number}.internal" for number in range(3)]
    results["workers"] = [{**worker, "id": f"{name}_{'0123456789abcdef' * 2}", "host": name} for name in names]
    results["workers"][1] |= {"state": "lost", "lost_at": "2026-01-31T12:00:09Z"}
    results["run"]["settings"] |= {"generator.max_send_delay": 0.2, "criteria": ["chat[POST /api/chat] p95 < 2 s"] * 9}
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render_html(results))
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{WIDER_THAN_THE_PAGE}</body>"), "utf-8")
    document = document_of((tmp_path / "page.html").as_uri(), tmp_path, "--window-size=1280,900")
    assert "<title></title>" in document


@pytest.mark.parametrize("title", ["Criteria", "Scenarios"])
def test_the_first_tables_are_cards_on_a_narrow_screen(title: str) -> None:
    """A table of eight columns is cut at the edge of a telephone; a card names each figure itself."""
    text = page_of_case("passing")
    table = re.search(rf'<div class="scroll cards \w+"[^>]* aria-label="{title}">.*?</table>', text, re.DOTALL)
    assert table is not None
    columns = re.findall(r"<th [^>]*>(.*?)</th>", table[0])
    labels = re.findall(r'<td [^>]*data-label="(.*?)"', table[0])
    assert labels == columns * (table[0].count("<tr>") - 1)


def test_environment_and_settings_are_folded_in_markdown() -> None:
    """A table inside HTML is one on GitHub only with an empty line on each side."""
    results = sample_results()
    results["run"]["settings"] = {f"loop.key{number:02}": number for number in range(50)}
    text = render_markdown(results)
    folded = re.findall(r"\n\n<details>\n<summary>(\w+)</summary>\n\n(.*?)\n\n</details>(?=\n\n)", text, re.DOTALL)
    tables = {title: markdown_tables(content) for title, content in folded}
    assert list(tables) == ["Environment", "Settings"] == re.findall(r"<summary>(.*?)</summary>", text)
    assert ["host", "load-1"] in tables["Environment"][0]
    assert len(tables["Settings"][0]) == 1 + 50
    assert text.index("Target `http") < text.index("## Criteria")  # what is not folded: whom the load went to


def test_a_long_table_is_cut_in_markdown_alone() -> None:
    results = sample_results()
    error = {"type": "POST", "name": "/api/chat", "count": 1}
    results["metrics"][0]["phases"][1]["errors"] = [{**error, "error": f"error number {i:03}"} for i in range(200)]
    assert render_html(results).count("error number") == 200
    text = render_markdown(results)
    assert text.count("error number") == 40
    assert "162 more rows are in the HTML report." in text


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.j2")))
def test_templates_only_place_what_the_view_prepared(name: str) -> None:
    tree = render._markdown_environment().parse((TEMPLATES / name).read_text("utf-8"))
    arithmetic = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.Neg)
    assert not list(tree.find_all(arithmetic))
    assert {found.name for found in tree.find_all(nodes.Filter)} <= {"upper", "join", "code", "excerpt"}


def test_charts_use_neither_pyplot_nor_a_display() -> None:
    code = """
import sys
from asyncload_lib.report.render import render_html
from tests.results.sample import sample_results
render_html(sample_results())
print("matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "True False"


@pytest.mark.usefixtures("_without_charts")
def test_junit_is_well_formed_and_counts_itself(tmp_path: Path) -> None:
    root = ET.parse(dict(render_all(CASES["failing"](), tmp_path, STAMP))["xml"]).getroot()
    assert root.get("tests") == str(len(list(root.iter("testcase"))))
