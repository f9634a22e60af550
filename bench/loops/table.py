"""The figures of the loop bench as Markdown; a goal that was missed is shown as missed."""

from collections.abc import Iterator
from typing import Any

__all__ = ["markdown"]

SHARE = 0.95
"""Goal: at least this share of the stalls of 10 to 20 ms is found, and all longer ones."""
OVERHEAD = 0.01
"""Goal: watching takes at most this share of the loop's time and of the throughput."""


def markdown(run: dict[str, Any]) -> str:
    """Return the tables of a run."""
    machine = run["machine"]
    quick = "quick run, " if run["quick"] else ""
    lines = [
        f"{machine['cores']} cores ({machine['cpu']}), CPython {machine['python']}, target on {run['loop']}; "
        f"load average before the run {machine['load_before'][0]:g}, "
        f"{run['steal']:.0%} of the CPU time stolen by the hypervisor; {quick}{run['date']}.",
        "",
    ]
    if "faults" in run:
        lines += [*_faults(run), ""]
    if "overhead" in run:
        lines += [*_overhead(run["overhead"]), ""]
    if "clean" in run:
        lines += [*_clean(run["clean"]), ""]
    return "\n".join(lines)


def _faults(run: dict[str, Any]) -> Iterator[str]:
    yield "| fault, under load | true length | found | line right | length within 2 ms or 10 % | worst error | |"
    yield "|---|---|---|---|---|---|---|"
    for row in run["faults"]:
        times, cause = row["times"], row["cause"]
        found = f"{row['found']} of {times}" + ("" if cause in ("loop", "none") else f" as {cause}")
        right = "-" if cause == "none" else f"{row['line_right']} of {times}"
        within = f"{row['within']} of {times} | {row['worst_error_ms']:.1f} ms" if cause in ("loop", "gc") else "- | -"
        length = f"{row['true_ms']:.1f} ms"
        yield f"| {row['fault']} | {length} | {found} | {right} | {within} | {_word(_is_fault_met(row))} |"
    for row in run["sweep"]:
        times, met = row["times"], row["line_right"] >= SHARE * row["times"]
        counts = f"{row['found']} of {times} | {row['line_right']} of {times}"
        yield f"| {row['fault']} | | {counts} | - | - | {_word(met)} |"


def _is_fault_met(row: dict[str, Any]) -> bool:
    times, cause = row["times"], row["cause"]
    if cause == "none":
        return not row["found"]
    if row["true_ms"] < 20:
        return bool(row["line_right"] >= SHARE * times)
    wanted = (row["found"], row["line_right"], *((row["within"],) if cause != "gil" else ()))
    return all(count == times for count in wanted)


def _overhead(measured: list[dict[str, Any]]) -> Iterator[str]:
    yield "| cost, against the same target without it | of the loop's time | throughput: median, 95 % interval | |"
    yield "|---|---|---|---|"
    for of in measured:
        kind = {"bare": "bare ASGI application", "fastapi": "FastAPI route with a model"}[of["target"]]
        for mode, title in (("monitor", "`LoopMonitor`"), ("probe", "`LoopProbe`, monitor included")):
            row = of["modes"][mode]
            median, low, high = row["throughput_ratio"]
            met = row["loop_share"] <= OVERHEAD and median >= 1 - OVERHEAD
            load = f"{kind}, {of['connections']} connections, {row['requests_per_second']:,.0f} requests/s"
            ratio = f"x{median:.3f} ({low:.3f} to {high:.3f})"
            yield f"| {title}: {load} | {row['loop_share']:.2%} | {ratio} | {_word(met)} |"


def _clean(runs: list[dict[str, Any]]) -> Iterator[str]:
    yield "| clean run, nothing blocks | loop | stalls charged to the loop | to gil, gc, machine | longest lag | |"
    yield "|---|---|---|---|---|---|"
    for run in runs:
        beside = f", every core taken by {run['burners']} other processes" if run["burners"] else ""
        title = f"{run['seconds']:.0f} s, generator at {run['generator_cpu']:.0%} of a core{beside}"
        for loop in run["loops"]:
            causes = loop["by_cause"]
            others = ", ".join(str(causes[cause]) for cause in ("gil", "gc", "machine"))
            decides = loop["name"] != "generator hub"
            verdict = _word(causes["loop"] == 0) if decides else "Locust's own, decides nothing"
            lag = f"{loop['lag_max_ms']:.1f} ms"
            yield f"| {title} | {loop['name']} | {causes['loop']} | {others} | {lag} | {verdict} |"
            title = ""


def _word(met: bool) -> str:
    return "met" if met else "missed"
