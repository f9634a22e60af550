"""The runs that a report must be able to show, made from the sample run, and readers for the formats."""

import copy
import html
import html.parser
import re
from functools import cache
from typing import Any

from asyncload_lib.report.render import render_html
from tests.results.sample import sample_results

Json = dict[str, Any]

HOSTILE = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "</title></style></script><svg onload=document.title='owned'>",
    "\" onmouseover=document.title='owned' style='x:expression(1)",
    "{{7*7}} {% for x in y %} ${7*7} #{7*7}",
    r"$\frac$",
    r"$\frac{1}{0} _^ \undefined$",
    "a|b\\|c\\\\|d",
    "first\nsecond\r\nthird\u2028fourth\x0bfifth",
    "`code` ``` ~~~ **bold** _it_ # head [x](javascript:alert(1)) ![i](http://example.invalid/i.png)",
    "@everyone #1 https://example.invalid/x www.example.invalid",
    "\u202eright to left\u202c \u2066isolate\u2069",
    "nul\x00 ansi\x1b[31m bell\x07 c1\x9b31m",
    "lone \ud800 surrogate \udfff",
    "emoji 🔥👩‍🚀 中文 עברית",
    "]]> & &amp; &#60;script&#62; <!-- -->",
    "=cmd|' /C calc'!A0",
    "x" * 100_000,
    "|" * 5_000,
]


def failing() -> Json:
    return sample_results(mode="blocking")


def without_baseline() -> Json:
    results = sample_results()
    for metric in results["metrics"][:2]:
        metric["baseline"] = None
    return results


def free_run() -> Json:
    results = sample_results()
    sustained = results["metrics"][0]["phases"][-1]
    metric = {**results["metrics"][0], **sustained, "scenario": "run", "test_name": "Free run", "phase": "run"}
    del metric["begun"]
    metric.update(phases=[{**sustained, "phase": "run"}], baseline=None, criteria=[], extra={}, start_skew=None)
    results["run"]["kind"] = "free"
    results.update(metrics=[metric], criteria=[])
    return results


def not_judged() -> Json:
    """A free run without criteria in which no request failed, and an event loop was blocked."""
    results = free_run()
    (metric,) = results["metrics"]
    metric.update(failed_requests=0, event_loop_blocked=True)
    metric["phases"][0]["failed_requests"] = 0
    results["summary"].update(all_passed=False, verdict="not evaluated")
    return results


def empty() -> Json:
    results = sample_results()
    results["run"].update(status="incomplete", status_reasons=["worker w1 was lost 12.1 s after the start"])
    results.update(metrics=[], criteria=[], workers=[], generator={"valid": None, "reasons": [], "processes": []})
    results["summary"] = {"total_tests": 0, "all_passed": False, "avg_p95_latency": None, "total_requests": 0}
    results["summary"]["verdict"] = "incomplete"
    return results


def nothing_answered() -> Json:
    """Every request failed or is unknown: all latencies are null."""
    results = sample_results()
    for metric in results["metrics"]:
        for figures in (metric, *metric["phases"], metric["baseline"]):
            figures.update({key: None for key, value in figures.items() if isinstance(value, float)})
            figures.update(latency={}, endpoints=[], request_metrics=[], series=[], distribution=[], errors=[])
        metric.update(event_loops=[], extra={})
    for criterion in results["criteria"]:
        criterion.update(verdict="no data", observed=None, observed_value=None)
    results["summary"]["verdict"] = "fail"
    return results


def invalid() -> Json:
    return sample_results(generator_valid=False)


CASES = {
    "passing": sample_results,
    "failing": failing,
    "without_baseline": without_baseline,
    "free_run": free_run,
    "not_judged": not_judged,
    "empty": empty,
    "nothing_answered": nothing_answered,
    "invalid": invalid,
}


@cache
def page_of_case(case: str) -> str:
    """The page of a case, drawn once for all who only read it."""
    return render_html(CASES[case]())


def first_scenario(results: Json) -> Json:
    """The same run with its first scenario only, which has every kind of chart."""
    return {**results, "metrics": results["metrics"][:1]}


def hostile(text: str) -> Json:
    """A run in which everything that comes from outside is `text`."""
    results = copy.deepcopy(failing())
    run = results["run"]
    run.update(command=text, id=text, git_commit=text, status_reasons=[text], settings={text: text, "redis.url": text})
    run["target"].update(host=text, mode=text)
    run["host"].update(name=text, os=text)
    run["versions"] = {text: text}
    run["simulated"] = {text: 0.2}
    for worker in results["workers"]:
        worker.update(id=text, host=text, note=text, state=text, version=text)
    for process in results["generator"]["processes"]:
        process["process"] = text
    results["generator"]["reasons"] = [text]
    for criterion in results["criteria"]:
        criterion.update(observed=text, why=text)
    results["criteria"].append({**results["criteria"][0], "name": text, "limit": text, "verdict": text})
    for metric in results["metrics"]:
        _poison(metric, text)
    return results


def _poison(metric: Json, text: str) -> None:
    metric["test_name"] = text
    metric["extra"][text] = 1.0
    for entry in (metric, *metric["phases"]):
        entry["phase"] = text
        entry["errors"] = [{"type": text, "name": text, "error": text, "count": 3}]
        entry["request_metrics"].append({"name": text, "request": text, "count": 1, "p50": 0.1})
        for endpoint in entry["endpoints"]:
            endpoint.update(type=text, name=text)
        for percentile in entry["latency"].values():
            percentile["note"] = text
    metric["baseline"].update(kind=text, explanation=text)
    for vm in metric["vms"]:
        vm.update(name=text, url=text, error=text, state=text)
    for loop in metric["event_loops"]:
        loop.update(name=text, process=text, note=text, witness=text)
        for culprit in loop["culprits"]:
            culprit.update(file=text, function=text, call=text, task=text, cause=text)
            culprit["excerpt"] = [[87, text], [88, f"    {text}"], [89, text]]


class Page(html.parser.HTMLParser):
    """What a page holds: every tag with its attributes, the text outside style, and its tables as rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "path", "use"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text as rows of cells, read as GitHub reads them (pipes cut before code spans)."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.split("\n"):
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            tables.append([])
        inside = True
        cells = re.findall(r"((?:\\.|[^|\\])*)\|", line[1:])
        if not all(re.fullmatch(r" -{3}:? ", cell) for cell in cells):
            tables[-1].append([plain(cell) for cell in cells])
    return tables


def plain(cell: str) -> str:
    """A Markdown cell as a reader sees it."""
    cell = cell.strip().replace("\u200b", "")
    code = re.fullmatch(r"(`+) ?(.*?) ?\1", cell)
    if code:
        return code[2].replace("\\|", "|")
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell))
