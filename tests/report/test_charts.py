import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from asyncload_lib.report import charts
from asyncload_lib.report.before_after import Pair, draw_before_after, pairs
from asyncload_lib.report.canvas import inline_svg, latency_ticks, spread
from asyncload_lib.report.distribution import _rebin, draw_distribution, latency_bars
from asyncload_lib.report.entries import Entry
from asyncload_lib.report.limits import Limit, latency_limits
from asyncload_lib.report.numbers import duration
from asyncload_lib.report.overtime import draw_over_time
from asyncload_lib.report.series import lag_series, timeline
from tests.report.cases import CASES, HOSTILE, first_scenario, hostile
from tests.results.sample import sample_results

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str | None) -> list[str]:
    assert svg is not None
    return ["".join(found.itertext()) for found in ET.fromstring(svg).iter(f"{SVG}text")]


def points(line: Line2D) -> list[list[float]]:
    found: list[list[float]] = np.column_stack(line.get_data()).tolist()
    return found


def test_the_distribution_marks_percentiles_and_the_limit() -> None:
    results = CASES["failing"]()
    metric = results["metrics"][0]
    words = texts(charts.distribution(metric, latency_limits(metric, results)))
    assert {"p50", "p95", "p99", "p95 < 2 s", "requests", "latency of a request, logarithmic (left is better)"} <= set(
        words
    )


def test_a_limit_beyond_the_axis_is_named_with_an_arrow() -> None:
    results = sample_results()
    metric = results["metrics"][0]
    limits = latency_limits(metric, results)
    assert limits == [Limit("burst", 2.0, "p95 < 2 s")]
    assert "p95 < 2 s →" in texts(charts.distribution(metric, limits))
    assert "↑ burst p95 < 2 s" in texts(charts.over_time(metric, limits))


def test_a_limit_is_drawn_where_its_phase_is() -> None:
    results = sample_results()
    names = ["chat p95 < 300 ms", "chat p99 < 300 ms", "chat.sustained p95 < 400 ms", "chat.few[x] p95 < 1 ms"]
    results["criteria"] = [{**results["criteria"][0], "name": name} for name in names]
    metric = results["metrics"][0]
    limits = latency_limits(metric, results)
    assert [(limit.phase, limit.words) for limit in limits] == [
        ("burst", "p95, p99 < 300 ms"),
        ("sustained", "p95 < 400 ms"),
    ]
    figure, spans = Figure(figsize=(7, 3)), timeline(metric)
    draw_over_time(figure, spans, [], [], limits)
    drawn = [line for line in figure.axes[0].collections if isinstance(line, LineCollection)]
    ends = [tuple(line.get_segments()[0][:, 0]) for line in drawn]
    assert ends == [(span.start, span.end) for span in spans[1:]]


def test_run_is_limited_whatever_the_users_of_a_free_run() -> None:
    results = sample_results()
    results["criteria"] = [{**results["criteria"][0], "name": "run p95 < 2 s"}]
    results["run"]["kind"] = "free"
    assert [limit.words for limit in latency_limits(results["metrics"][0], results)] == ["p95 < 2 s"]
    results["run"]["kind"] = "suite"
    assert latency_limits(results["metrics"][0], results) == []


@pytest.mark.parametrize("name", ["chat p95 < 2", "chat p95 < 0 s", "chat p95 < 1 %"])
def test_a_limit_that_is_no_time_is_not_drawn_and_costs_nothing(name: str) -> None:
    results = sample_results()
    results["criteria"] = [{**results["criteria"][0], "name": name}]
    assert latency_limits(results["metrics"][0], results) == []


def test_failed_requests_have_a_hatch_of_their_own() -> None:
    ok_only, both = sample_results()["metrics"][0], sample_results()["metrics"][3]
    assert "failed" not in texts(charts.distribution(ok_only, []))
    assert {"ok", "failed"} <= set(texts(charts.distribution(both, [])))
    assert "pattern" in str(charts.distribution(both, []))


def test_joining_bars_loses_no_request() -> None:
    bars = CASES["failing"]()["metrics"][0]["phases"][2]["distribution"]
    edges, ok, failed = _rebin(bars)
    assert sum(ok) == sum(bar["ok"] for bar in bars) > 500
    assert sum(failed) == sum(bar["failed"] for bar in bars) == 6
    assert len(edges) == len(ok) + 1
    assert edges == sorted(edges)


def test_no_bin_is_empty_only_because_a_bar_spans_it() -> None:
    """Thirteen octaves of eight bars each, as long runs have: a bin narrower than a bar had nothing, every few bins."""
    edges_s = [2.0**octave * (1 + part / 8) * 1e-3 for octave in range(13) for part in range(8)] + [2.0**13 * 1e-3]
    bars: list[Entry] = [{"low": low, "high": high, "ok": 700, "failed": 0} for low, high in pairwise(edges_s)]
    edges, ok, _ = _rebin(bars)
    assert sum(ok) == 700 * len(bars)
    assert len(edges) > 20
    assert min(ok) > 0


@pytest.mark.parametrize("case", ["passing", "failing"])
def test_a_limit_beyond_the_axis_is_named_above_every_line(case: str) -> None:
    for metric in CASES[case]()["metrics"]:
        figure = Figure(figsize=(5.6, 3.8), dpi=72)
        draw_distribution(figure, metric, latency_bars(metric), [Limit(metric["phase"], 500.0, "p95 < 500 s")])
        drawer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        axes = figure.axes[0]
        words = next(text for text in axes.texts if text.get_text() == "p95 < 500 s →")
        box, others = words.get_window_extent(drawer), [text for text in axes.texts if text is not words]
        if legend := axes.get_legend():
            others += legend.get_texts()
        assert box.y0 > axes.get_window_extent(drawer).y1
        assert box.x0 > 0
        assert not any(box.overlaps(other.get_window_extent(drawer)) for other in others)


def test_the_course_over_time_names_phases_loops_and_stalls() -> None:
    words = texts(charts.over_time(CASES["failing"]()["metrics"][0], [Limit("burst", 2.0, "p95 < 2 s")]))
    assert {"few", "burst", "sustained", "p50", "p95", "p99", "target", "outside", "generator", "hub"} <= set(words)
    assert {"p95 < 2 s", "largest lag, limit 10 ms", "▼ loop: target", "× failed"} <= set(words)  # noqa: RUF001


def test_what_was_late_from_outside_is_not_drawn_as_a_stall_of_the_loop() -> None:
    chat = CASES["failing"]()["metrics"][0]
    inside, outside = ("target", "inside"), ("target (outside)", "outside")
    for found in chat["event_loops"]:
        found["stall_times"] = []
    seen = [{"t": 1.0, "length": 0.05, "cause": "loop"}]
    loop, late = "▼ loop: target", "▲ late answer"
    for (name, witness), sign, other in ((inside, loop, late), (outside, late, "▼ loop")):
        words = texts(charts.over_time({**chat, "event_loops": [
            *chat["event_loops"], {"name": name, "witness": witness, "limit_s": 0.01, "stall_times": seen}
        ]}, []))  # fmt: skip
        assert sign in words
        assert not any(word.startswith(other) for word in words)


def test_the_signs_of_stalls_say_of_which_loops_they_are_where_there_is_room() -> None:
    chat = CASES["failing"]()["metrics"][0]
    for loop in chat["event_loops"]:
        loop["stall_times"] = []
    loops = {loop["name"]: loop for loop in chat["event_loops"]}
    loops["target"]["stall_times"] = [{"t": 1.0, "length": 0.05, "cause": "loop"}]
    loops["generator"]["stall_times"] = [{"t": t, "length": 0.02, "cause": "gc"} for t in (1.0, 2.0)]
    assert {"▼ loop: target", "● GC: generator"} <= set(texts(charts.over_time(chat, [])))
    for loop in chat["event_loops"]:
        loop["stall_times"] = [{"t": 1.0, "length": 0.05, "cause": cause} for cause in ("loop", "gil", "gc", "machine")]
    assert {"▼ loop", "■ GIL", "● GC", "× machine"} <= set(texts(charts.over_time(chat, [])))  # noqa: RUF001


def test_the_word_for_failures_stands_over_no_percentile() -> None:
    import xml.etree.ElementTree as ET

    root = ET.fromstring(str(charts.over_time(CASES["failing"]()["metrics"][0], [])))
    heights = [
        float(text.attrib["transform"].rstrip(")").split()[-1]) if "translate" in text.attrib.get("transform", "")
        else float(text.attrib["y"])
        for text in root.iter()
        if text.tag.endswith("text") and "".join(text.itertext()).strip() in ("p50", "p95", "p99", "× failed")  # noqa: RUF001
    ]  # fmt: skip
    assert len(heights) == 4
    assert min(later - earlier for earlier, later in pairwise(sorted(heights))) >= 10


def test_a_limit_beyond_the_axis_moves_no_percentile_from_its_line() -> None:
    import xml.etree.ElementTree as ET

    def places(limits: list[Limit]) -> dict[str, str]:
        root = ET.fromstring(str(charts.distribution(CASES["failing"]()["metrics"][1], limits)))
        return {"".join(text.itertext()).strip(): str(text.attrib) for text in root.iter() if text.tag.endswith("text")}

    alone, beside = places([]), places([Limit("burst", 500.0, "p95 < 500 s")])
    assert "p95 < 500 s →" in beside
    assert {name: beside[name] for name in ("p50", "p95", "p99")} == {
        name: alone[name] for name in ("p50", "p95", "p99")
    }


def test_phases_follow_each_other_without_overlap() -> None:
    chat = sample_results()["metrics"][0]
    chat["phases"].append({**chat["phases"][-1], "phase": "baseline_warm_up"})  # against another service
    spans = timeline(chat)
    assert [span.name for span in spans] == ["few", "burst", "sustained"]
    for before, after in pairwise(spans):
        assert after.start - before.end == pytest.approx(0.5)
        assert all(before.start <= point.start < point.end <= before.end for point in before.points)


def test_phases_without_a_place_in_the_watch_follow_each_other_on_an_axis_of_their_own() -> None:
    """As in results of an earlier version: the stalls below would stand in the wrong phase."""
    chat = sample_results()["metrics"][0]
    assert texts(charts.over_time(chat, [])).count("10 s") == 1
    for phase in chat["phases"]:
        del phase["begun"]
    spans = timeline(chat)
    assert [after.start for after in spans] == [0.0, spans[0].end, spans[1].end]
    assert texts(charts.over_time(chat, [])).count("10 s") == 2


def test_a_ramp_lies_before_the_watch() -> None:
    chat = sample_results()["metrics"][0]
    for phase, (name, begun) in zip(chat["phases"][-2:], [("ramp", -4.0), ("run", 0.1)], strict=True):
        phase |= {"phase": name, "begun": begun}
    chat["phases"] = chat["phases"][-2:]
    figure, spans = Figure(figsize=(7, 3)), timeline(chat)
    draw_over_time(figure, spans, lag_series(chat["event_loops"]), chat["event_loops"], [])
    assert [span.start for span in spans] == [-4.0, 0.1]
    upper, lower = (axes.get_xlim() for axes in figure.axes)
    assert upper == lower
    assert upper[0] == -4.0
    assert upper[1] >= spans[1].end


def test_a_course_needs_three_points() -> None:
    redis = sample_results()["metrics"][1]
    assert timeline(redis) == []
    assert "p95" not in texts(charts.over_time(redis, []))
    redis["event_loops"] = []
    assert charts.over_time(redis, []) is None


def test_lag_has_no_gap_and_ends_after_its_last_interval() -> None:
    (lag,) = lag_series([{"name": "target", "series": [{"t": t, "max_lag": 0.001} for t in (0, 2, 4)]}])
    assert lag.steps == [(0, 2, 0.001), (2, 4, 0.001), (4, 6, 0.001)]


def test_without_latencies_there_is_no_chart() -> None:
    metric = CASES["nothing_answered"]()["metrics"][0]
    assert charts.distribution(metric, []) is None
    assert charts.over_time(metric, []) is None


def test_a_chart_follows_the_theme_of_the_page() -> None:
    svg = str(charts.distribution(sample_results()["metrics"][0], []))
    assert "var(--blue)" in svg
    assert not re.search(r"(fill|stroke): ?#", svg)
    assert "<?xml" not in svg
    assert "font-family" not in svg


def test_ids_of_two_charts_differ() -> None:
    metric = sample_results()["metrics"][0]
    first, second = (set(re.findall(r'id="([^"]+)"', str(charts.distribution(metric, [], salt)))) for salt in "ab")
    assert first
    assert not first & second


def test_the_same_results_give_the_same_drawing() -> None:
    first, second = (charts.drawings(first_scenario(sample_results())) for _ in range(2))
    assert {"before-after", "0-distribution", "0-time"} == first.keys()
    assert first == second


def test_a_chart_that_fails_says_so_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise ValueError("<b>no</b>")

    monkeypatch.setattr(charts, "distribution", broken)
    drawn = charts.drawings(first_scenario(sample_results()))
    assert drawn["0-distribution"] == "<p>This chart could not be drawn: ValueError: &lt;b&gt;no&lt;/b&gt;</p>"
    assert drawn["0-time"].startswith("<svg")


@pytest.mark.parametrize("text", HOSTILE[:1])
def test_hostile_names_are_text_in_a_drawing(text: str) -> None:
    for svg in charts.drawings(hostile(text)).values():
        tags = {found.tag.removeprefix(SVG) for found in ET.fromstring(svg).iter()}
        assert tags <= {"svg", "g", "path", "use", "defs", "clipPath", "rect", "text", "pattern"}


def test_before_and_after_of_every_scenario_with_a_baseline_are_drawn() -> None:
    results = sample_results()
    results["metrics"][0]["concurrency"] = 80
    results["metrics"][2]["baseline"] = None
    results["metrics"][3]["baseline"]["speedup"] = None
    words = texts(charts.before_after(results["metrics"]))
    chat = results["metrics"][0]
    told = [duration(chat["total_time"]), duration(chat["baseline"]["total_time"])]
    assert {*told, "50 Concurrent Chat Requests (HTTP)", "run with 80", "before", "after", "ceiling"} <= set(words)
    assert {"46.3x (ceiling 50x)", "41.2x (ceiling 100x)", "total time, logarithmic (left is better)"} <= set(words)
    assert not {"Mixed File I/O + Redis Operations", "Cross-VM Concurrent Requests"} & set(words)


def test_the_dots_stand_where_the_times_are() -> None:
    (chat, *_), (first, *_) = sample_results()["metrics"], pairs(sample_results()["metrics"])
    assert (first.before_s, first.after_s) == (chat["baseline"]["total_time"], chat["total_time"])
    assert first.best_s == pytest.approx(first.before_s / 50)
    figure = Figure(figsize=(11.2, 3))
    draw_before_after(figure, [first])
    dots = {str(line.get_marker()): [x for x, _ in points(line)] for line in figure.axes[0].lines if points(line)}
    assert (dots["s"], dots["o"], dots["|"]) == ([first.before_s], [first.after_s], [first.best_s])


@pytest.mark.parametrize("after_s", [1.0, 1.1, 1.2, 1.3, 1.5, 2.0])
def test_the_sign_of_the_ceiling_crosses_no_figure(after_s: float) -> None:
    rows = [Pair(f"row {place}", 50.0, after_s, 1.0, 50.0) for place in range(4)]
    figure = Figure(figsize=(11.2, 1.0 + 0.62 * len(rows)), dpi=72)
    draw_before_after(figure, rows)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    (axes,) = figure.axes
    written = [words.get_window_extent() for words in axes.texts]
    signs = [line for line in axes.lines if line.get_marker() == "|" and points(line)]
    assert len(signs) == len(rows)
    for sign in signs:
        x, y = axes.transData.transform(points(sign)[0])
        half = sign.get_markersize() / 2
        covered = Bbox([[x - 1, y - half], [x + 1, y + half]])
        assert not [box for box in written if box.overlaps(covered)]


def test_without_an_improvement_there_is_no_picture_of_one() -> None:
    for case in ("free_run", "empty", "nothing_answered"):
        assert charts.before_after(CASES[case]()["metrics"]) is None
    assert charts.drawings(CASES["empty"]()) == {}


def test_a_formula_is_a_name() -> None:
    assert r"$\frac$" in texts(charts.over_time(hostile(r"$\frac$")["metrics"][0], []))


def test_colours_in_text_are_left_alone() -> None:
    drawn = inline_svg('<svg width="1" height="1"><text style="fill: #1b1f24">#1b1f24 <g id="x"></text></svg>')
    assert drawn == '<svg aria-hidden="true" ><text style="fill: var(--ink)">#1b1f24 <g></text></svg>'


def test_labels_move_apart_in_their_order_and_stay_inside() -> None:
    places = spread([0.5, 0.5, 0.52, 0.99], [0.1] * 4)
    assert places == sorted(places)
    assert all(after - before >= 0.0999 for before, after in pairwise(places))
    assert places[-1] <= 0.95 + 1e-9


@pytest.mark.parametrize(
    ("low", "high", "expected", "expected_labels"),
    [
        (0.003, 0.06, [0.005, 0.01, 0.02, 0.05], ["5 ms", "10 ms", "20 ms", "50 ms"]),
        (0.0001, 0.5, [0.0001, 0.001, 0.01, 0.1], ["100 µs", "1 ms", "10 ms", "100 ms"]),
        (0.2, 0.3, [0.2], ["200 ms"]),
        (1e-6, 3600, [1e-6, 1e-4, 1e-2, 1, 100], ["1 µs", "100 µs", "10 ms", "1 s", "100 s"]),
        (5, 5, [5], ["5 s"]),
    ],
)
def test_ticks_are_few_round_and_inside(
    low: float, high: float, expected: list[float], expected_labels: list[str]
) -> None:
    ticks, labels = latency_ticks(low, high)
    assert ticks == pytest.approx(expected)
    assert labels == expected_labels
