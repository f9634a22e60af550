"""The figures of the loop bench as Markdown; a goal that was missed is shown as missed."""

from collections.abc import Iterator
from typing import Any

from bench.loops.clean import WATCHED
from bench.loops.overhead import BUSY

__all__ = ["markdown"]

SHARE = 0.95
"""Goal: at least this share of the stalls of 10 to 20 ms is found, and all longer ones."""
OVERHEAD = 0.01
"""Goal: watching takes at most this share of the throughput."""
HUB = "generator hub"


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
        lines += [*_faults(run["faults"]), ""]
    if "overhead" in run:
        lines += [*_overhead(run["overhead"]), ""]
    if "clean" in run:
        lines += [*_clean(run["clean"]), ""]
    return "\n".join(lines)


def _faults(loads: list[dict[str, Any]]) -> Iterator[str]:
    heads = (f"{load['title']}, loop at {load['busy']:.0%}: found, line right, length right" for load in loads)
    yield f"| fault | true length | {' | '.join(heads)} | worst error | |"
    yield "|---|---|" + "---|" * len(loads) + "---|---|"
    for rows in zip(*(load["rows"] for load in loads), strict=True):
        row = rows[0]
        if "not_measured" in row:
            yield f"| {row['fault']} | " + "| " * len(loads) + f"| | not measured: {row['not_measured']} |"
            continue
        is_timed = "true_ms" in row and row["cause"] != "gil"
        length = f"{row['true_ms']:.1f} ms" if is_timed else ""
        errors = [found["worst_error_ms"] for found in rows if "worst_error_ms" in found]
        worst = f"{max(errors):.1f} ms" if errors and row["cause"] in ("loop", "gc") else ""
        cells = " | ".join(map(_found, rows))
        told = _word(all(map(_is_met, rows)))
        for load in loads:
            if load["saturates"] and load["busy"] < BUSY:
                told = f'not measured: "{load["title"]}" took {load["busy"]:.0%} of a core only'
        yield f"| {row['fault']} | {length} | {cells} | {worst} | {told} |"


def _found(row: dict[str, Any]) -> str:
    counts = [row["found"]]
    if row["cause"] != "none":
        counts.append(row["line_right"])
    if row["cause"] in ("loop", "gc") and "within" in row:
        counts.append(row["within"])
    as_cause = "" if row["cause"] in ("loop", "none") else f" as {row['cause']}"
    beside = f"; {row['beside']} false" if row.get("beside") else ""
    return f"{', '.join(map(str, counts))} of {row['times']}{as_cause}{beside}"


def _is_met(row: dict[str, Any]) -> bool:
    times, cause = row["times"], row["cause"]
    if cause == "none":
        return not row["found"]
    if row.get("beside"):
        return False
    if row.get("true_ms", 0.0) < 20:
        return bool(row["line_right"] >= SHARE * times)
    wanted = (row["found"], row["line_right"], *((row["within"],) if cause != "gil" else ()))
    return all(count == times for count in wanted)


def _overhead(measured: list[dict[str, Any]]) -> Iterator[str]:
    yield "| cost, against the same target without it | CPU per request | throughput | |"
    yield "|---|---|---|---|"
    for of in measured:
        kind = {"bare": "bare ASGI application", "fastapi": "FastAPI route with a model"}[of["kind"]]
        load = f"{kind}, {of['connections']} connections, {of['requests_per_second']:,.0f} requests/s"
        for mode, title in (("monitor", "`LoopMonitor`"), ("probe", "`LoopProbe`, monitor included")):
            cpu, throughput = of["modes"][mode]["cpu_ratio"], of["modes"][mode]["throughput_ratio"]
            told = _word(throughput[0] >= 1 - OVERHEAD)
            if of["busy"] < BUSY:
                told = f"not measured: the loop had the CPU for {of['busy']:.0%} of the time only"
            yield f"| {title}: {load} | {_ratio(*cpu)} | {_ratio(*throughput)} | {told} |"


def _ratio(median: float, least: float, most: float) -> str:
    return f"x{median:.3f} ({least:.3f} to {most:.3f})"


def _clean(runs: list[dict[str, Any]]) -> Iterator[str]:
    yield "| clean run, nothing blocks | loop | stalls charged to the loop | to gil, gc, machine | longest lag | |"
    yield "|---|---|---|---|---|---|"
    for run in runs:
        beside = f", every core taken by {run['burners']} other processes" if run["burners"] else ""
        title = f"{run['seconds']:.0f} s, generator at {run['generator_cpu']:.0%} of a core{beside}"
        loops = {loop["name"]: loop for loop in run["loops"]}
        for name in ("target", "generator", HUB):
            yield f"| {title} | {name} | {_clean_loop(loops.get(name), run['seconds'])} |"
            title = ""


def _clean_loop(loop: dict[str, Any] | None, seconds: float) -> str:
    """Return what was seen of a loop. It was clean if it was watched all the time and found free, as in a report."""
    if loop is None:
        return "| | | not measured: it was not watched"
    causes = {cause: found["stalls"] for cause, found in loop["by_cause"].items()}
    others = ", ".join(str(causes[cause]) for cause in ("gil", "gc", "machine"))
    if loop["name"] == HUB:
        verdict = "Locust's own, decides nothing"
    elif loop["blocked"] is None or loop["watched_s"] < WATCHED * seconds:
        verdict = f"not measured: watched for {loop['watched_s']:.0f} s. {loop['note'] or ''}".strip()
    else:
        verdict = _word(causes["loop"] == 0 and not loop["blocked"])
    return f"{causes['loop']} | {others} | {loop['lag']['max'] * 1e3:.1f} ms | {verdict}"


def _word(met: bool) -> str:
    return "met" if met else "missed"
