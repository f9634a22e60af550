"""Text that others wrote stays text: read back by parsers here, and by a real browser where there is one."""

import http.server
import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.report import render
from asyncload_lib.report.charts import drawings
from asyncload_lib.report.junit import render_junit
from asyncload_lib.report.render import render_html, render_markdown
from tests.browser import document_of, needs_browser
from tests.report.cases import HOSTILE, Page, failing, first_scenario, hostile, markdown_tables, plain


@cache
def page_of(text: str) -> str:
    """The whole page of a run full of `text`, with the charts of its first scenario: drawing them takes the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "drawings", lambda results: drawings(first_scenario(results)))
        return render_html(hostile(text))


text_of = cache(lambda text: render_markdown(hostile(text)))
TAGS = {tag for tag, _ in Page(render_html(failing())).tags}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_has_no_tag_and_no_attribute_from_data(text: str) -> None:
    page = Page(page_of(text))
    assert {tag for tag, _ in page.tags} <= TAGS
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not page._open
    assert "could not be drawn" not in page.text


FOLDS = {"<details>", "</details>", "<summary>Environment</summary>", "<summary>Settings</summary>"}


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_has_one_row_each_and_no_markup_from_data(text: str) -> None:
    tables = markdown_tables(text_of(text))
    shapes = [{len(row) for row in table} for table in tables]
    assert all(len(shape) == 1 for shape in shapes)
    criteria = next(table for table in tables if table[0][:2] == ["Verdict", "Criterion"])
    assert len(criteria) == len(hostile(text)["criteria"]) + 1
    lines = [line for line in text_of(text).split("\n") if not line.startswith(("|", ">", " ")) and line not in FOLDS]
    prose = re.sub(r"\\.|(`+).*?\1", "", " ".join(lines))  # what is escaped or code is no markup
    assert not re.search(r"<[a-zA-Z/!]|\]\(|https?://", prose)


@pytest.mark.parametrize("text", HOSTILE)
def test_junit_stays_well_formed(text: str) -> None:
    results = hostile(text)
    root = ET.fromstring(render_junit(results).encode())
    assert len(list(root.iter("testcase"))) == len(results["criteria"]) + 1


@pytest.mark.parametrize("text", HOSTILE)
def test_no_format_grows_with_one_text(text: str) -> None:
    assert max(map(len, (page_of(text), text_of(text), render_junit(hostile(text))))) < 1_000_000


def test_hostile_text_can_still_be_read() -> None:
    """Inert is not the same as lost: what was sent stands in every format."""
    text = "<b>a|b</b> `c` $d$ @e"
    assert text in Page(page_of(text)).text
    endpoint = next(t for t in markdown_tables(text_of(text)) if t[0][:2] == ["Phase", "Endpoint"])
    assert endpoint[1][1] == f"{text[:18]}… {text}"
    assert plain(text_of(text)).count(text) > 10


class Sink(http.server.BaseHTTPRequestHandler):
    """Counts whoever asks for anything."""

    hits: list[str]

    def do_GET(self) -> None:
        self.hits.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[tuple[str, list[str]]]:
    class OwnSink(Sink):
        hits: list[str] = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OwnSink)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", OwnSink.hits
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def in_browser(page: str, directory: Path) -> str:
    """Open `page` in a real browser and give the document as it stands after its scripts, if any, have run."""
    file = directory / "page.html"
    file.write_text(page, "utf-8")
    return document_of(file.as_uri(), directory, "--timeout=3000")


def attacks(host: str) -> list[str]:
    """What a page without defence falls for; each is short enough to be shown whole."""
    return [
        f"<script>document.title='owned';fetch('{host}/script')</script>",
        f"<img src='{host}/img' onerror=\"document.title='owned'\">",
        f"<iframe src='{host}/frame'></iframe>",
        f"<link rel=stylesheet href='{host}/css'><style>@import '{host}/import'</style>",
        f"</code></td></table></pre></text></svg></style><img src='{host}/broken-out'>",
    ]


def run_full_of(texts: list[str]) -> dict[str, Any]:
    """A run in which every text stands in every kind of place."""
    results = hostile(texts[0])
    results["workers"] = [{**results["workers"][0], "id": text, "note": text} for text in texts]
    for metric in results["metrics"]:
        errors = [{"type": "POST", "name": text, "error": text, "count": 1} for text in texts]
        for loop, text in zip(metric["event_loops"], texts, strict=False):
            loop.update(name=text, note=text)
            loop["culprits"] = [{"file": text, "line": 1, "call": text, "excerpt": [[1, text]]} for text in texts]
        for phase, text in zip(metric["phases"], texts, strict=False):
            phase.update(phase=text, errors=errors)
    return results


@needs_browser
def test_the_attack_works_on_a_page_without_defence(tmp_path: Path, sink: tuple[str, list[str]]) -> None:
    """Without this, the next test could pass because the attacks are lame."""
    host, hits = sink
    document = in_browser(f"<!doctype html><title>x</title><body>{''.join(attacks(host))}", tmp_path)
    assert "<title>owned</title>" in document
    assert {"/img", "/css", "/broken-out"} <= set(hits)


@needs_browser
def test_a_real_browser_runs_nothing_and_asks_nobody(tmp_path: Path, sink: tuple[str, list[str]]) -> None:
    host, hits = sink
    # A dialog would keep the browser waiting, and the test would time out.
    document = in_browser(render_html(run_full_of([*attacks(host), "<script>alert(1)</script>"])), tmp_path)
    assert hits == []
    assert "<title>FAIL: " in document
    assert "document.title='owned'" in Page(document).text  # shown, not run
    assert {tag for tag, _ in Page(document).tags} <= TAGS | {"tbody"}
    assert "script" not in TAGS


@needs_browser
def test_a_real_browser_sees_the_same_tables(tmp_path: Path) -> None:
    page = render_html(run_full_of(HOSTILE))
    assert Page(in_browser(page, tmp_path)).tables == Page(page).tables
