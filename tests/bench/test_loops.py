"""The bench of the loop's watchers: what it counts as found, as missed, and as not measured."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from bench.loops.faults import FAULTS, Fault, blame, marked_lines, under_load
from bench.loops.overhead import turns
from bench.loops.peers import target
from bench.loops.table import markdown
from bench.processes import free_port

SLEEP = next(fault for fault in FAULTS if fault.seconds == 0.050)
RUN = {
    "machine": {"cores": 2, "cpu": "x", "python": "3.11.7", "load_before": [0.0]},
    "quick": False,
    "loop": "uvloop",
    "steal": 0.0,
    "date": "2026-01-31",
}


def report(**stalls: int) -> dict[str, Any]:
    """Return what a probe says: of each cause, so many stalls; those of the loop at the line of `SLEEP`."""
    causes = {cause: {"stalls": stalls.get(cause, 0)} for cause in ("loop", "gil", "gc", "machine")}
    place = {"file": "/x/bench/loops/target.py", "line": marked_lines()["sleep"], "cause": "loop"}
    return {"by_cause": causes, "culprits": [{**place, "count": stalls.get("loop", 0)}]}


def test_a_fault_is_named_by_file_line_and_cause() -> None:
    seen = report(loop=2, machine=5)
    assert blame(seen, SLEEP) == (2, 2)
    for key, value in (("line", 1), ("file", "/x/asyncio/events.py"), ("cause", "gil")):
        changed = {**seen, "culprits": [{**seen["culprits"][0], key: value}]}
        assert blame(changed, SLEEP) == (2, 0)


def test_what_is_charged_to_the_loop_beside_another_cause_is_seen() -> None:
    assert blame(report(loop=1, gc=1), Fault("", "gc", 0, "gc")) == (2, 0)
    assert blame(report(gc=1), SLEEP) == (0, 0)


def last_cell(run: dict[str, Any]) -> str:
    return markdown({**RUN, **run}).strip().splitlines()[-1].strip("| ").rsplit("| ", 1)[-1]


FAULT = {"fault": "x", "cause": "loop", "times": 20, "found": 20, "line_right": 20, "within": 20, "beside": 0}
FAULT |= {"true_ms": 40.0, "worst_error_ms": 0.5}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "met"),
        ({"found": 19}, "missed"),
        ({"line_right": 19}, "missed"),
        ({"within": 19}, "missed"),
        ({"beside": 1}, "missed"),
        ({"true_ms": 15.0, "line_right": 19, "within": 0}, "met"),  # 95 % of the shorter ones, of any length
        ({"true_ms": 15.0, "line_right": 18}, "missed"),
        ({"cause": "gil", "within": 0}, "met"),
        ({"cause": "none", "found": 1}, "missed"),
    ],
)
def test_a_fault_is_met_only_under_every_load(change: dict[str, Any], verdict: str) -> None:
    loads = [
        {"title": "light", "saturates": False, "busy": 0.1, "rows": [FAULT]},
        {"title": "much", "saturates": True, "busy": 1.0, "rows": [FAULT | change]},
    ]
    assert last_cell({"faults": loads}) == verdict
    assert last_cell({"faults": loads[::-1]}) == verdict
    loads[1]["busy"] = 0.5
    assert last_cell({"faults": loads}) == 'not measured: "much" took 50% of a core only'


def test_a_fault_that_could_not_be_done_is_not_left_out() -> None:
    rows = [{"fault": "x", "not_measured": "no compiler"}]
    assert (
        last_cell({"faults": [{"title": "light", "saturates": False, "busy": 0.1, "rows": rows}]})
        == "not measured: no compiler"
    )


@pytest.mark.parametrize(
    ("throughput", "busy", "verdict"), [(0.991, 1.0, "met"), (0.989, 1.0, "missed"), (0.999, 0.5, "not measured: ")]
)
def test_a_target_that_was_not_kept_busy_says_nothing_about_the_cost(
    throughput: float, busy: float, verdict: str
) -> None:
    ratios = {"throughput_ratio": (throughput, 0.9, 1.1), "cpu_ratio": (1.001, 0.9, 1.1)}
    of = {"kind": "bare", "connections": 8, "requests_per_second": 1e4, "busy": busy}
    assert last_cell({"overhead": [{**of, "modes": {"monitor": ratios, "probe": ratios}}]}).startswith(verdict)


NONE = {cause: {"stalls": 0} for cause in ("loop", "gil", "gc", "machine")}
LOOP = {"name": "target", "blocked": False, "watched_s": 600.0, "note": None, "lag": {"max": 0.01}, "by_cause": NONE}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "met"),
        ({"by_cause": {**NONE, "machine": {"stalls": 3}}}, "met"),
        ({"by_cause": {**NONE, "loop": {"stalls": 1}}, "blocked": True}, "missed"),
        ({"blocked": True}, "missed"),  # by a named holder of the GIL
        ({"blocked": None, "note": "Its watchdog ended."}, "not measured: watched for 600 s. Its watchdog ended."),
        ({"watched_s": 60.0}, "not measured: watched for 60 s."),
        ({"name": "target (outside)"}, "not measured: it was not watched"),
    ],
)
def test_a_clean_run_needs_a_loop_that_was_watched_all_the_time(change: dict[str, Any], verdict: str) -> None:
    run = {"seconds": 600, "burners": 0, "generator_cpu": 0.8, "loops": [LOOP | change]}
    first = markdown({**RUN, "clean": [run]}).strip().splitlines()[-3]
    assert first.strip("| ").rsplit("| ", 1)[-1] == verdict


@pytest.mark.parametrize("options", [["--quick"], ["--only", "overhead"]])
def test_a_part_of_the_tables_is_not_written_over_all_of_them(options: list[str]) -> None:
    asked = subprocess.run([sys.executable, "-m", "bench.loops", "--readme", *options], capture_output=True, text=True)
    assert asked.returncode == 2
    assert "--readme replaces all tables" in asked.stderr


def test_faults_without_the_load_are_no_result() -> None:
    async def main() -> None:
        async with under_load(free_port(), 100.0) as load:
            await asyncio.wait([load])

    with pytest.raises(ConnectionError):
        asyncio.run(main())


def test_a_target_counts_its_turns() -> None:
    with target("uvloop", {}, None) as ready:
        seen = asyncio.run(turns(ready["port"], 2, 2.0))
    assert seen["counted"].keys() == {"nothing", "monitor", "probe"}
    assert {len(counted) > 0 for counted in seen["counted"].values()} == {True}
    assert all(per_s > 0 and 0 < cpu_s < 1 for counted in seen["counted"].values() for per_s, cpu_s in counted)
    assert 0 < seen["busy"] <= 1.05
