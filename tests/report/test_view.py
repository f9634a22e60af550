"""No two formats can differ: JSON, Markdown, HTML, JUnit and console tell the same numbers and the same criteria."""

import math
import random
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.report import render
from asyncload_lib.report.console import console_table
from asyncload_lib.report.junit import render_junit
from asyncload_lib.report.numbers import duration
from asyncload_lib.report.render import render_html, render_markdown
from asyncload_lib.report.table import Table
from asyncload_lib.report.view import build
from asyncload_lib.results.files import load
from asyncload_lib.run.scenarios import planned
from asyncload_lib.settings import OPTIONS, Settings
from asyncload_lib.target import Target
from asyncload_lib.verdict.grammar import KNOWN
from asyncload_lib.verdict.stalls import is_blamed
from tests.report.cases import CASES, Page, free_run, markdown_tables, nothing_answered, plain
from tests.results.sample import sample_results

EXAMPLE = Path(__file__).parents[2] / "reports" / "example" / "results.json"

UNTESTED = "The target got no load in this scenario, only check requests: its loop was not tested here."

LONGEST, STALLS = "Longest stall charged to the code (max_stall)", "Stalls charged to the code (stalls)"

SECONDS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}


def shown(table: Table | None) -> Table:
    assert table is not None
    return table


@pytest.fixture
def _without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is read in words and tables only: most of what a page takes is the drawing."""
    monkeypatch.setattr(render, "drawings", lambda _: {})


@pytest.mark.usefixtures("_without_charts")
@pytest.mark.parametrize("case", CASES)
def test_html_and_markdown_show_the_same_tables(case: str) -> None:
    results = CASES[case]()
    in_markdown, in_html = markdown_tables(render_markdown(results)), Page(render_html(results)).tables
    assert [table for table in in_html if table not in in_markdown] == []
    # What was before and after is drawn in HTML, and each scenario tells it again.
    assert [table for table in in_markdown if table not in in_html and "Improvement" not in table[0]] == []


@pytest.mark.usefixtures("_without_charts")
def test_every_figure_of_the_json_stands_in_both() -> None:
    results = sample_results()
    page = Page(render_html(results)).text
    text = plain(render_markdown(results))
    for metric in results["metrics"]:
        for key in ("total_time", "p50_latency", "p95_latency", "p99_latency"):
            words = duration(metric[key])
            figure, unit = words.split()
            assert math.isclose(float(figure) * SECONDS[unit], metric[key], rel_tol=0.005)
            assert words in page
            assert words in text
        for entry in metric["latency"].values():
            if entry["ci_low"] is not None:
                interval = f"{duration(entry['ci_low'])} – {duration(entry['ci_high'])}"  # noqa: RUF001
                assert interval in page
                assert interval in text


@pytest.mark.usefixtures("_without_charts")
@pytest.mark.parametrize("case", CASES)
def test_every_criterion_stands_in_every_format(case: str) -> None:
    results = CASES[case]()
    rows = {tuple(row[:4]) for table in Page(render_html(results)).tables for row in table if table[0][0] == "Verdict"}
    cases = {found.get("name") for found in ET.fromstring(render_junit(results)).iter("testcase")}
    told = console_table(results)
    for criterion in results["criteria"]:
        subject = criterion["name"].removesuffix(criterion["limit"]).strip()
        assert any(criterion["verdict"] in row[0] and row[1:3] == (subject, criterion["limit"]) for row in rows)
        assert criterion["name"] in cases
        assert any(subject in line and criterion["limit"] in line for line in told.split("\n"))
    if results["criteria"]:
        assert len(rows) == len(results["criteria"]) + 1


def test_what_did_not_hold_comes_first() -> None:
    words = [row[0].word for row in shown(build(CASES["failing"]()).criteria).rows]
    assert words == sorted(words, key=["fail", "no data", "pass", "not evaluated"].index)
    assert words[0] == "fail"


def test_a_blocked_loop_is_the_first_of_what_was_missed() -> None:
    results = CASES["failing"]()
    results["criteria"].append({**results["criteria"][3], "name": "target max_stall < 10 ms"})
    results["criteria"].append({**results["criteria"][3], "name": "redis max_stall < 10 ms", "verdict": "pass"})
    told = [row[1] for row in shown(build(results).criteria).rows]
    assert told[:3] == ["chat max_stall", "target max_stall", "chat total_time"]
    assert told[-2] == "redis max_stall"  # in its own place


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("passing", "All 9 criteria hold; 1 not evaluated."),
        (
            "failing",
            "4 of 9 criteria missed: chat max_stall < 10 ms, chat total_time < 5 s, chat p95 < 2 s and 1 more.",
        ),
        (
            "nothing_answered",
            "10 of 10 criteria without data: chat total_time < 5 s, chat p95 < 2 s, chat error_rate < 1 % and 7 more.",
        ),
        ("empty", "Worker w1 was lost 12.1 s after the start. Criteria are shown but not certified."),
        ("invalid", "Process 4711 used 98 % of a CPU (limit 90 %). Criteria are shown but not certified."),
        ("free_run", "No criterion was evaluated; 6 of 600 requests failed."),
        ("not_judged", "No criterion was evaluated; 0 of 600 requests failed and an event loop was blocked."),
    ],
)
def test_the_verdict_has_one_sentence(case: str, words: str) -> None:
    assert build(CASES[case]()).sentence == words


def test_what_failed_during_the_ramp_is_told_where_nothing_else_was_judged() -> None:
    results = free_run()
    ramp = {**results["metrics"][0]["phases"][0], "phase": "ramp", "failed_requests": 1, "total_requests": 400}
    results["metrics"][0]["failed_requests"] = results["metrics"][0]["phases"][0]["failed_requests"] = 0
    results["metrics"][0]["phases"].insert(0, ramp)
    results["summary"].update(all_passed=False, verdict="fail")
    assert build(results).sentence == "No criterion was evaluated; 1 of 1,000 requests failed."


def test_the_count_of_requests_says_which_it_leaves_out() -> None:
    free, ramped = free_run(), free_run()
    ramped["metrics"][0]["phases"].insert(0, {**free["metrics"][0]["phases"][0], "phase": "ramp"})
    scopes = [
        next(fact.note for fact in build(results).facts if fact.label == "Requests")
        for results in (sample_results(), ramped, free)
    ]
    assert scopes == ["in the headline phases", "after the ramp", ""]


def test_what_was_missed_and_what_has_no_data_are_told_apart() -> None:
    results = CASES["failing"]()
    results["criteria"][-2]["verdict"] = "no data"
    assert build(results).sentence.startswith("4 of 9 criteria missed, 1 without data: chat max_stall < 10 ms")
    results["criteria"] = results["criteria"][-2:-1]
    assert build(results).sentence == "1 of 1 criterion without data: vm_health reachable >= 50 %."


@pytest.mark.usefixtures("_without_charts")
def test_a_reason_of_several_sentences_is_told_whole() -> None:
    results = nothing_answered()
    why = " ".join(f"This is sentence {number:02} of those that say why there is no value." for number in range(9))
    results["criteria"][0]["why"] = why
    told = " ".join(console_table(results).split())
    for text in (told, render_html(results), render_markdown(results), render_junit(results)):
        assert why in text


@pytest.mark.usefixtures("_without_charts")
def test_a_target_judged_from_outside_only_is_told_beside_the_criteria_once() -> None:
    results = sample_results()
    assert build(results).criteria_notes == ()
    for metric in results["metrics"]:
        loops = [loop for loop in metric["event_loops"] if loop["name"] != "target"]
        metric["event_loops"] = [{**loop, "note": ""} for loop in loops]
        target = {**loops[0], "name": "target (outside)", "witness": "outside", "blocked": False}
        metric["event_loops"].append(
            {**target, "note": "Seen from outside. The loop was not watched from inside: http //h/loop answered 500."}
        )
    (note,) = build(results).criteria_notes
    assert "judged from outside only, which misses stalls between two check requests, " in note
    assert note.endswith(": http //h/loop answered 500.")
    criteria = [plain(text).partition("Before and after")[0] for text in (render_markdown(results),)]
    criteria += [Page(render_html(results)).text.partition("Before and after")[0], console_table(results)]
    for text in criteria:
        assert " ".join(text.split()).count(note) == 1
    for metric in results["metrics"]:
        metric["event_loops"][-1]["blocked"] = None  # then the criterion has no data, and its reason says all this
    assert build(results).criteria_notes == ()


def test_a_witness_from_outside_that_was_refused_is_told_beside_the_criteria() -> None:
    results = sample_results()
    refused = "Seen from outside. 68 check requests were answered with HTTP 404. Name another endpoint"
    for outside in (loop for metric in results["metrics"] for loop in metric["event_loops"]):
        if outside["witness"] != "outside":
            continue
        outside |= {"blocked": None, "proven_stall": None, "note": f"{refused} (loop.witness_path)."}
    assert build(results).criteria_notes == (f"The target was not seen from outside: {refused} (loop.witness_path).",)
    assert "68 check requests were answered with HTTP 404" in " ".join(console_table(results).split())


def test_a_loop_that_may_have_been_a_queue_is_not_said_to_be_unwatched() -> None:
    results = sample_results()
    (outside,) = (loop for loop in results["metrics"][0]["event_loops"] if loop["witness"] == "outside")
    outside |= {"blocked": None, "proven_stall": 0.001, "max_stall": 0.04}
    table = build(results).scenarios[0].loops.table
    assert table is not None
    (verdicts,) = (row for row in table.rows if row[0] == "Verdict")
    assert "cannot tell" in [verdict.word for verdict in verdicts[1:]]


@pytest.mark.parametrize(
    ("blocked", "proven_s", "late_s", "tile", "note", "longest"),
    [
        (None, 0.001, 0.04, "○ cannot tell", "an answer was late by 40.0 ms", "–"),  # noqa: RUF001
        (
            True,
            0.03,
            1.5,
            "✗ blocked",
            "stalled for at least 30.0 ms, an answer was late by 1.50 s",
            "at least 30.0 ms",
        ),
        (False, 0.0, 0.0, "✓ not blocked", "no stall", "none seen"),
    ],
)
def test_what_a_late_answer_proves_is_told_apart_from_how_late_it_was(
    blocked: bool | None, proven_s: float, late_s: float, tile: str, note: str, longest: str
) -> None:
    results = sample_results()
    chat = results["metrics"][0]
    (outside,) = (loop for loop in chat["event_loops"] if loop["witness"] == "outside")
    generators = [loop for loop in chat["event_loops"] if not loop["name"].startswith("target")]
    outside |= {"blocked": blocked, "proven_stall": proven_s, "max_stall": late_s, "stalls": int(late_s > 0)}
    chat |= {"event_loops": [outside, *generators], "event_loop_blocked": blocked}
    scenario = build(results).scenarios[0]
    assert [(fact.value, fact.note) for fact in scenario.tiles if fact.label == "Event loop"] == [(tile, note)]
    rows = {row[0]: row[1] for row in shown(scenario.loops.table).rows}
    assert rows.get("Stall proven from outside", "–") == longest  # noqa: RUF001
    # From outside nobody knows whether code or the machine was the cause.
    assert (rows[LONGEST], rows[STALLS]) == ("–", "–")  # noqa: RUF001
    assert rows["Longest delay of an answer"] == duration(late_s)
    assert rows["Late answers"] == str(int(late_s > 0))


@pytest.mark.parametrize(
    ("watched_s", "inside", "tile"),
    [
        (9.0, {}, "○ cannot tell"),  # the usual answer took longer than the limit, and there is no probe
        (None, {}, "○ not watched"),
        (9.0, {"watched_s": 2.0}, "○ cannot tell"),  # a worker that was restarted
        (9.0, {"watched_s": None}, "○ not watched"),  # one that did not answer
    ],
)
def test_the_tile_and_the_table_of_loops_say_the_same_of_a_loop_that_was_not_judged(
    watched_s: float | None, inside: dict[str, Any], tile: str
) -> None:
    results = sample_results()
    chat = results["metrics"][0]
    loops = {loop["name"]: loop for loop in chat["event_loops"]}
    proven_s = 0.0 if inside else None  # where the one inside was not judged, the one outside saw nothing
    loops["target (outside)"] |= {"watched_s": watched_s, "blocked": None if not inside else False}
    loops["target (outside)"] |= {"proven_stall": proven_s, "max_stall": 0.0, "stalls": 0}
    loops["target"] |= {**inside, "blocked": None}
    if not inside:
        del loops["target"]
    chat |= {"event_loops": list(loops.values()), "event_loop_blocked": None}
    scenario = build(results).scenarios[0]
    assert [(fact.value, fact.note) for fact in scenario.tiles if fact.label == "Event loop"] == [(tile, "no data")]
    assert tile in [str(cell) for cell in shown(scenario.loops.table).rows[0]]


def test_a_loop_that_was_not_tested_is_not_shown_as_a_pass() -> None:
    results = sample_results()
    chat = results["metrics"][0]
    for phase in (chat, *chat["phases"]):
        phase |= {"successful_requests": 0, "failed_requests": phase["total_requests"]}
    tile = next(fact for fact in build(results).scenarios[0].tiles if fact.label == "Event loop")
    assert (tile.value, tile.note) == ("✓ not blocked", "no request succeeded: not tested")
    assert tile.tone == "doubt"


def test_the_table_of_loops_counts_what_decides() -> None:
    """A thread that nobody could name held the GIL: the loop is not blocked, and no stall stands beside that."""
    results = sample_results()
    target = next(loop for loop in results["metrics"][0]["event_loops"] if loop["name"] == "target")
    stalled = {"stalls": 1, "blocked_s": 0.0688, "max_stall": 0.0688}
    target |= stalled
    target["by_cause"]["gil"] = stalled
    rows = {row[0]: row[1] for row in shown(build(results).scenarios[0].loops.table).rows}
    code = [rows[LONGEST], rows[STALLS], rows["Time stalled by the code (blocked_time)"]]
    assert (rows["Verdict"].word, code) == ("not blocked", ["none", "0", "0 s"])
    assert rows["Stalls by the GIL"] == "1, longest 68.8 ms"
    (holder,) = culprits(1, "gil")
    target["culprits"] = [holder]
    rows = {row[0]: row[1] for row in shown(build(results).scenarios[0].loops.table).rows}
    assert rows[LONGEST] == "60.0 ms"


@pytest.mark.parametrize(
    ("name", "function", "counts"), [("target", "hold", True), ("target", None, False), ("generator", "hold", False)]
)
def test_what_is_said_of_the_interpreter_lock_is_how_it_is_judged(name: str, function: str, counts: bool) -> None:
    assert is_blamed({"name": name}, {"cause": "gil", "function": function}) is counts
    (rule,) = (rule for rule in build(sample_results()).measured if "interpreter lock" in rule)
    assert "in the target, another thread, which is named, held the interpreter lock (GIL)" in rule
    assert "other holders of the GIL are listed separately" in rule


def example() -> dict[str, Any]:
    return load(EXAMPLE)


def loop_notes(results: dict[str, Any]) -> dict[str, bool]:
    """Of which scenarios it is said that the target's loop was not tested."""
    return {scenario.name: UNTESTED in scenario.loops.notes for scenario in build(results).scenarios}


def test_a_target_that_got_no_load_is_not_said_to_be_tested() -> None:
    results = example()
    assert loop_notes(results) == {"chat": False, "redis": True, "mixed": True, "vm_health": True}
    for text in (Page(render_html(results)).text, plain(render_markdown(results))):
        assert text.count(UNTESTED) == 3
    targets = [loop for metric in results["metrics"] for loop in metric["event_loops"] if "target" in loop["name"]]
    for loop in targets:
        loop["blocked"] = None
    assert not any(loop_notes(results).values())
    for loop in targets:
        loop["blocked"] = loop["name"] == "target"
    assert not any(loop_notes(results).values())


@pytest.mark.parametrize("scenario", ["redis", "run"])
def test_what_users_of_a_free_run_send_tells_whether_the_target_got_load(scenario: str) -> None:
    """Users of Redis and of files together are a run named "run", and a class derived from RedisUser may do more."""
    results = example()
    metric = {**results["metrics"][2], "scenario": scenario, "baseline": None}
    results |= {"metrics": [metric]}
    results["run"]["kind"] = "free"
    assert loop_notes(results) == {scenario: True}
    for kind, name in (("GET", "/"), ("FILE", "upload")):
        own = {**metric["phases"][0]["endpoints"][0], "type": kind, "name": name}
        one_more = {**metric["phases"][0], "endpoints": [*metric["phases"][0]["endpoints"], own]}
        assert loop_notes({**results, "metrics": [{**metric, "phases": [one_more]}]}) == {scenario: False}


def test_a_pass_from_outside_only_says_so_first() -> None:
    results = sample_results()
    assert "outside" not in build(results).sentence
    note = "Seen from outside. The loop was not watched from inside: no probe token is known."
    chat = results["metrics"][0]
    chat["event_loops"] = [loop for loop in chat["event_loops"] if loop["name"] != "target"]
    chat["event_loops"].append({**chat["event_loops"][0], "name": "target (outside)", "blocked": False, "note": note})
    assert build(results).sentence.endswith(" The target's event loop was seen from outside only.")


def loop_tile(results: dict[str, Any]) -> str:
    return next(fact.note for fact in build(results).scenarios[0].tiles if fact.label == "Event loop")


@pytest.mark.parametrize(("name", "cause"), [("target", "machine"), ("generator", "gil"), ("generator hub", "loop")])
def test_stalls_that_do_not_count_are_not_denied_above_the_table_that_lists_them(name: str, cause: str) -> None:
    results = sample_results()
    assert loop_tile(results) == "no stall"
    loop = next(loop for loop in results["metrics"][0]["event_loops"] if loop["name"] == name)
    loop["by_cause"][cause] = {"stalls": 3, "blocked_s": 0.038, "max_stall": 0.0161}
    assert loop_tile(results) == "no stall that counts"


def test_the_words_of_criteria_are_those_of_the_report() -> None:
    results = example()
    told = plain(render_markdown(results))
    page = render_html(results)
    in_criteria = ("redis_get", "service_time", "Ok avg", "(max_stall)", "(stalls)", "(blocked_time)", "(start_skew)")
    for word in (*in_criteria, "degradation (", "redis_interference (", "beyond_slowest (", "warm_up"):
        assert word in told
        assert word in page
    for words in ("redis get", "service time", "mean", "warm up"):
        assert not re.search(rf"\b{words}\b", told + page)


def test_what_a_scenario_alone_means_is_told_below_the_criteria_that_name_it() -> None:
    results = sample_results()
    meant = "A scenario alone means its headline phase: {}; max_stall covers all phases but the baseline."
    results["metrics"] = results["metrics"][:1]
    for text in (Page(render_html(results)).text, plain(render_markdown(results))):
        assert text.count(meant.format("chat.burst")) == 1
    note = shown(build(example()).criteria).note
    assert note == meant.format("chat.burst, redis.burst, mixed.mixed, vm_health.checks")
    results["run"]["kind"] = "free"
    assert shown(build(results).criteria).note == ""


def test_every_phase_is_told_in_words() -> None:
    (phases,) = (table for table in build(sample_results()).scenarios[2].tables if table.title == "Phases")
    assert phases.note.startswith(
        "redis_alone: the Redis operations without the files; files_alone: the file operations without Redis; "
        "burst: all users released at the same instant; baseline: the same operations, blocking. Started = ok"
    )
    results = example()
    for known in set().union(*KNOWN.values()):
        results["metrics"][1]["phases"][0]["phase"] = known
        (phases,) = (table for table in build(results).scenarios[1].tables if table.title == "Phases")
        assert phases.note.startswith(f"{known}: ")
    results["metrics"][1] |= {"phases": [{"phase": "somebody's own"}], "baseline": None}
    (phases,) = (table for table in build(results).scenarios[1].tables if table.title == "Phases")
    assert phases.note.startswith("Started = ok")


def test_the_loops_of_the_generator_are_told_apart() -> None:
    rule = 'The loop "generator" runs the users; "generator hub" is Locust\'s own, which decides nothing but whether'
    for text in (Page(render_html(sample_results())).text, plain(render_markdown(sample_results()))):
        assert rule in text


def test_an_unknown_verdict_is_never_a_pass() -> None:
    results = sample_results()
    results["summary"]["verdict"] = "splendid"
    results["criteria"][0]["verdict"] = None
    report = build(results)
    assert report.verdict.tone != "pass"
    assert shown(report.criteria).rows[0][0].tone != "pass"
    del results["summary"]
    assert build(results).verdict.word == "incomplete"


def test_no_data_is_never_zero() -> None:
    report = build(nothing_answered())
    tiles = {tile.label: tile.value for tile in report.scenarios[0].tiles}
    assert {tiles[name] for name in ("Total time", "Throughput", "p50", "p95", "p99", "Errors")} == {"–"}  # noqa: RUF001
    assert report.improvements[0].words == "no data"
    assert {row[3] for row in shown(report.criteria).rows} == {"no data"}


def test_a_percentile_that_is_not_resolved_says_so() -> None:
    scenario = build(sample_results()).scenarios[0]
    rows = {row[0]: row for row in shown(scenario.percentiles).rows}
    assert rows["p50"][3] == "resolved"
    assert rows["p99"][3].startswith("no 95 % interval: p99 needs at least 299 samples")
    assert next(tile for tile in scenario.tiles if tile.label == "p99").tone == "doubt"


def test_a_percentile_in_a_table_that_is_not_resolved_is_marked() -> None:
    results = sample_results()
    tables = {table.title: table for table in build(results).scenarios[0].tables}
    endpoints = [dict(zip([c.title for c in tables["Endpoints"].columns], row, strict=True))
                 for row in tables["Endpoints"].rows]  # fmt: skip
    sustained = next(row for row in endpoints if row["Phase"] == "sustained" and row["Endpoint"] == "POST /api/chat")
    assert not sustained["Ok p95"].endswith("*")
    assert sustained["Failed p95"].endswith(" ms *")
    assert next(row for row in endpoints if row["Phase"] == "few")["Ok p95"].endswith(" ms *")
    for name in ("Phases", "Endpoints", "Metrics of a request"):
        marked = any(str(cell).endswith("*") for row in tables[name].rows for cell in row)
        assert marked == ("* not resolved" in tables[name].note)
    overview = shown(build(results).overview)
    assert overview.rows[0][-1].endswith("*")
    assert "* not resolved" in overview.note


@pytest.mark.usefixtures("_without_charts")
def test_what_failed_in_any_phase_is_shown() -> None:
    """A target that is killed after the headline leaves its errors in a later phase, or in the baseline."""
    results = sample_results()
    chat = results["metrics"][0]
    chat["baseline"]["errors"] = [{"type": "POST", "name": "/api/chat", "error": "ReadTimeoutError: gone", "count": 2}]
    chat["baseline"].update(abandoned_requests=4, abandoned_max_age=2.5)
    assert chat["errors"] == []
    scenario = build(results).scenarios[0]
    tables = {table.title: table for table in scenario.tables}
    errors = {(row[0], row[1].partition(":")[0]) for row in tables["Errors, grouped"].rows}
    assert errors == {
        ("sustained", "ConnectionResetError"),
        ("sustained", "HTTP 503"),
        ("baseline", "ReadTimeoutError"),
    }
    assert {row[0] for row in tables["Endpoints"].rows} == {"few", "burst", "sustained", "baseline"}
    assert {row[0] for row in tables["Metrics of a request"].rows} == {"sustained"}
    titles = [column.title for column in tables["Phases"].columns]
    row = dict(zip(titles, tables["Phases"].rows[2], strict=True))
    counts = [row[name] for name in ("Phase", "Started", "Ok", "Failed", "Abandoned", "Invalid")]
    assert counts == ["sustained", "603", "594", "6", "3", "1"]
    assert "Phase sustained: 3 requests were cut off in flight, the oldest after 190 ms." in scenario.notes
    assert "Phase baseline: 4 requests were cut off in flight, the oldest after 2.50 s." in scenario.notes
    for text in (render_html(results), render_markdown(results)):
        assert all(word in text for word in ("ReadTimeoutError: gone", "Connection reset by peer"))


@pytest.mark.usefixtures("_without_charts")
def test_another_number_stands_beside_the_fixed_name() -> None:
    results = sample_results()
    results["metrics"][0]["concurrency"] = 80
    heading = "50 Concurrent Chat Requests (HTTP) - run with 80"
    report = build(results)
    assert report.scenarios[0].title == report.improvements[0].name == shown(report.overview).rows[0][0] == heading
    assert report.scenarios[1].title == "100 Concurrent Redis Operations"
    assert f"<h2>{heading}" in render_html(results)
    assert 'name="50 Concurrent Chat Requests (HTTP)"' in render_junit(results)


def test_one_of_something_is_told_in_the_singular() -> None:
    results = sample_results()
    metric = results["metrics"][0]
    metric["total_requests"] = 1
    metric["phases"][0].update(abandoned_requests=1, abandoned_max_age=0.19, invalid_latencies=1)
    target = next(loop for loop in metric["event_loops"] if loop["name"] == "target")
    target["culprits"] = [{**entry, "count": 1} for entry in culprits(6, "loop")]
    scenario = build(results).scenarios[0]
    assert scenario.tiles[1].note == "1 request"
    assert "Phase few: 1 request was cut off in flight, the oldest after 190 ms." in scenario.notes
    assert "Phase few: 1 latency was invalid and in no percentile." in scenario.notes
    assert scenario.loops.more == "1 more place: 1 stall, longest 60.0 ms, 100 ms in all."
    errors = next(table for table in scenario.tables if table.title == "Errors, grouped")
    assert errors.brief(len(errors.rows) - 1).note.startswith("1 more row is in")
    one_failed = free_run()
    one_failed["metrics"][0]["phases"][0].update(total_requests=1, failed_requests=1)
    assert build(one_failed).sentence == "No criterion was evaluated; 1 of 1 request failed."


@pytest.mark.usefixtures("_without_charts")
def test_the_kind_of_every_baseline_is_told_whole() -> None:
    results = sample_results()
    for scenario in planned(Settings(), Target()):
        results["metrics"][0]["baseline"]["kind"] = scenario.baseline_kind
        results["metrics"][0]["baseline"]["explanation"] = "It took long."
        for text in (render_html(results), render_markdown(results)):
            assert f"efore: {scenario.baseline_kind}." in text


def test_a_free_run_has_no_before_and_is_a_load_run() -> None:
    results = free_run()
    results["metrics"][0]["test_name"] = "Load run"
    report = build(results)
    assert (report.scenarios[0].title, shown(report.overview).rows[0][0]) == ("Load run", "Load run")
    for text in (render_html(results), render_markdown(results)):
        assert not any(words in text for words in ("Before and after", "Load run: run", "No blocking baseline"))
    results["metrics"][0]["test_name"] = "Load run: chat"
    assert build(results).scenarios[0].title == "Load run: chat"


def explained(speedup: float, explanation: str) -> tuple[str, dict[str, Any]]:
    results = sample_results()
    baseline = results["metrics"][3]["baseline"]
    baseline.update(speedup=speedup, ceiling=6.0, kind="one machine after another", explanation=explanation)
    return build(results).improvements[3].explanation, results


EXPLANATION = (
    "Before, with one machine after another, 6 operations took 0.191 s, on average 31.9 ms each. Operations that wait "
    "rather than compute can overlap: if all do, and each takes as long as before, the improvement is 6x."
)


@pytest.mark.usefixtures("_without_charts")
def test_what_was_measured_before_is_told_once_in_a_card() -> None:
    told, results = explained(5.2, EXPLANATION)
    assert told == EXPLANATION
    for text in (render_html(results), render_markdown(results)):
        assert text.count("one machine after another") == 1
    told, results = explained(5.2, "No improvement can be stated: no request of the baseline succeeded.")
    for text in (render_html(results), render_markdown(results)):
        assert text.count("one machine after another") == 1


def test_what_the_improvement_depends_on_is_of_the_operations_and_not_of_the_users_of_the_baseline() -> None:
    results = sample_results()
    redis = results["metrics"][1]
    redis["baseline"]["concurrency"] = 1  # one client does them, one after another
    report = build(results)
    assert report.improvements[1].facts[0].value == "100"
    (phases,) = (table for table in report.scenarios[1].tables if table.title == "Phases")
    assert [row[:2] for row in phases.rows] == [("burst", "200"), ("baseline", "1")]


def culprits(number: int, cause: str) -> list[dict[str, Any]]:
    return [
        {"file": f"{cause}{i}.py", "line": i + 1, "function": "f", "call": "g()", "cause": cause, "count": 2,
         "total_s": 0.1 * (i + 1), "longest_s": 0.06, "excerpt": []}
        for i in range(number)
    ]  # fmt: skip


def test_stalls_that_do_not_decide_are_not_said_to_have_blocked() -> None:
    results = sample_results()
    loops = {loop["name"]: loop for loop in results["metrics"][0]["event_loops"]}
    loops["generator hub"]["culprits"] = culprits(9, "loop")
    loops["generator"]["culprits"] = culprits(1, "gil")
    loops["target"]["culprits"] = culprits(1, "gc")
    section = build(results).scenarios[0].loops
    assert section.culprits == ()
    assert section.others is not None
    assert [row[1] for row in section.others.rows] == [f"loop{i}.py:{i + 1}" for i in (8, 7, 6, 5, 4)]
    assert section.others.note.endswith(" 6 more places: 12 stalls, longest 60.0 ms, 1.20 s in all.")
    for text in (render_html(results), render_markdown(results)):
        assert "Stalls that do not count as blocking" in text
        assert not any(words in text for words in ("Blocked at", "What blocked the loop"))


@pytest.mark.usefixtures("_without_charts")
def test_what_blocked_the_loop_is_told_in_few_places() -> None:
    results = sample_results()
    target = next(loop for loop in results["metrics"][0]["event_loops"] if loop["name"] == "target")
    target["culprits"] = [*culprits(4, "loop"), *culprits(3, "gil")]
    section = build(results).scenarios[0].loops
    assert section.others is None
    assert [culprit.place for culprit in section.culprits] == ["loop3.py:4", "loop2.py:3", "gil2.py:3", "loop1.py:2",
                                                               "gil1.py:2"]  # fmt: skip
    assert section.more == "2 more places: 4 stalls, longest 60.0 ms, 200 ms in all."
    for text in (render_html(results), render_markdown(results)):
        assert section.more in text


def test_settings_are_written_as_somebody_would_set_them() -> None:
    results = sample_results()
    numbers = {key: option.default for key, option in OPTIONS.items() if not isinstance(option.default, bool)}
    results["run"]["settings"] = {
        key: OPTIONS[key].kind.check(value) for key, value in numbers.items() if isinstance(value, str | int | float)
    }
    rows = dict(shown(build(results).settings).rows)
    for key, value in results["run"]["settings"].items():
        told = OPTIONS[key].kind.written(value)
        assert rows[key].replace(" ", "") in (told.replace(" ", ""), f"{told}B", f"{told}/s"), key
    assert (rows["chat.sustain"], rows["loop.limit"], rows["files.bytes"]) == ("15 s", "10 ms", "64 KiB")
    assert (rows["generator.max_cpu"], rows["loop.witness_rate"]) == ("90 %", "50/s")


def test_lists_of_settings_are_written_as_words() -> None:
    results = sample_results()
    machines = [{"name": "Main", "kind": "http", "url": "http://127.0.0.1:8001"}]
    criteria = ["chat p95 < 2 s", "target max_stall < 20 ms"]
    results["run"]["settings"] = {"criteria": criteria, "vms": machines, "chat.headers": []}
    rows = dict(shown(build(results).settings).rows)
    assert rows["criteria"] == "chat p95 < 2 s, target max_stall < 20 ms"
    assert (rows["vms"], rows["chat.headers"]) == ("Main = http://127.0.0.1:8001", "none")


def test_a_lost_worker_is_told_with_its_moment_and_its_note() -> None:
    results = sample_results()
    results["workers"][0] |= {"state": "lost", "lost_at": "2026-01-31T12:00:09Z", "note": "it is in no figure"}
    table = shown(build(results).workers)
    assert table.rows[0][:3] == ("local", "lost, 2026-01-31 12:00:09 UTC", "load-1:4711")
    assert table.note.endswith(" local: it is in no figure.")


def test_a_place_that_several_threads_came_by_is_told_once() -> None:
    results = sample_results()
    loops = {loop["name"]: loop for loop in results["metrics"][0]["event_loops"]}
    (here,) = culprits(1, "loop")
    threads = [{**here, "task": f"uvloop_{i}", "total_s": 0.1 * i, "longest_s": 0.01 * i} for i in range(1, 6)]
    unknown = [{**here, "file": None, "line": None, "function": None, "cause": cause} for cause in ("gc", "machine")]
    loops["target"]["culprits"] = [*threads, {**here, "line": 2}, {**here, "cause": "gil", "task": "uvloop_1"}]
    loops["generator"]["culprits"] = unknown
    section = build(results).scenarios[0].loops
    assert [culprit.place for culprit in section.culprits] == ["loop0.py:1", "loop0.py:2"]
    shared = section.culprits[0]
    assert shared.figures == "12 times, longest 60.0 ms, 1.60 s in all"
    tasks = "task uvloop_1, uvloop_2, uvloop_3 and 2 more"
    assert shared.detail == f"in f, {tasks}, a call that blocked the loop, another thread held the GIL"
    assert section.others is not None
    assert len(section.others.rows) == 2  # two places that nobody knows are not one


JUNK: list[object] = [None, True, -1, 0, 1e308, math.nan, math.inf, 10**400, "", "x", "\ud800<b>"]
JUNK += [[], {}, [None], [[]], {"x": None}]


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_document_still_has_a_report(seed: int) -> None:
    chosen = random.Random(seed)
    results = CASES[chosen.choice(sorted(CASES))]()
    for _ in range(chosen.randint(1, 40)):
        damage(results, chosen)
    assert render_markdown(results).startswith("# ")
    assert console_table(results)
    ET.fromstring(render_junit(results))
    if seed % 10 == 0:
        assert "could not be drawn" not in render_html(results)


def damage(results: dict[str, Any], chosen: random.Random) -> None:
    """Put junk in the place of one value somewhere."""
    node: Any = results
    parent: Any = None
    key: Any = None
    while isinstance(node, dict | list) and node and (parent is None or chosen.random() < 0.85):
        parent, key = node, chosen.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = node[key]
    if parent is not None:
        parent[key] = chosen.choice(JUNK)
