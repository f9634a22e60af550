"""`python -m bench`: measure side by side, print the table, keep it in bench/results; or write it into the README."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.contest import Bench
from bench.machine import describe
from bench.model import Table
from bench.peers import gather
from bench.processes import ROOT, leave
from bench.render import load, markdown, performance, save
from bench.rows.chat import chat, chat_processes
from bench.rows.fidelity import fidelity
from bench.rows.files import files
from bench.rows.growth import growth
from bench.rows.inside import recorder, report, startup, users
from bench.rows.redis import redis
from bench.rows.sse import sse
from bench.section import write

RESULTS = ROOT / "bench" / "results"
FULL_MINUTES, QUICK_MINUTES = 18, 2.8


class Row(NamedTuple):
    """What measures a row's tables, and how many seconds it may take in a full and in a quick run."""

    ask: Callable[[Bench, float], list[Table]]
    full_s: float
    quick_s: float


ROWS = {
    "chat": Row(chat, 220, 45),
    "processes": Row(chat_processes, 60, 15),
    "redis": Row(redis, 120, 25),
    "recorder": Row(recorder, 40, 10),
    "fidelity": Row(fidelity, 360, 20),
    "sse": Row(sse, 110, 20),
    "files": Row(files, 90, 12),
    "report": Row(report, 30, 8),
    "startup": Row(startup, 30, 10),
    "users": Row(users, 40, 6),
    "growth": Row(growth, 80, 10),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    minutes = f"{FULL_MINUTES} minutes, with --quick {QUICK_MINUTES}"
    parser.add_argument("--quick", action="store_true", help="fewer contenders and rounds, in less time")
    parser.add_argument("--only", default=",".join(ROWS), help=f"rows, of {', '.join(ROWS)}")
    parser.add_argument("--minutes", type=float, help=f"upper limit of the whole run (default {minutes})")
    parser.add_argument("--no-install", action="store_true", help="do not install peers that are missing")
    parser.add_argument("--again", metavar="RESULTS", help="replace these rows in older results")
    parser.add_argument("--readme", nargs="?", const="", metavar="RESULTS", help="write README.md from results")
    options = parser.parse_args()
    if options.readme is not None:
        return _write_readme(options.readme)
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(ROWS):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
    limit_s = 60 * (options.minutes or (QUICK_MINUTES if options.quick else FULL_MINUTES))
    return _measure(wanted, options.again, quick=options.quick, install=not options.no_install, limit_s=limit_s)


def _measure(wanted: list[str], again: str | None, *, quick: bool, install: bool, limit_s: float) -> int:
    peers = gather(install=install, heavy=not quick)
    begun, stamp = time.monotonic(), time.strftime("%Y%m%d_%H%M%S", time.gmtime())
    run: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": quick,
        "rows": {},
        "machine": describe(peers),
        "missing": peers.missing,
    }
    older, kept = load(Path(again)) if again is not None else (run, [])
    if _kind(older) != _kind(run):
        print(f"{again} is of another kind of run: {_kind(older)}; this one: {_kind(run)}", file=sys.stderr)
        return 1
    tables: list[Table] = []
    with tempfile.TemporaryDirectory(prefix="asyncload-bench-") as directory:
        bench = Bench(Path(directory), peers, quick, begun + limit_s)
        planned_s = sum(ROWS[name].quick_s if quick else ROWS[name].full_s for name in wanted)
        with bench.stack:
            for name in wanted:
                answers = _answers(bench, name, min(1.0, limit_s / planned_s))
                if all(table.columns for table in answers):
                    run["rows"][name] = run["date"]
                tables += answers
    run["duration_s"] = round(time.monotonic() - begun, 1)
    if again is not None:
        new = {table.key: table for table in tables}
        there = [table for table in kept if table.columns or table.key not in wanted]
        tables = [new.pop(table.key, table) for table in there] + list(new.values())
        others = {name: date for name, date in older.get("rows", {}).items() if name not in wanted}
        run = {**older, "rows": others | run["rows"]}
    path = save(run, tables, RESULTS, stamp)
    print(f"\n{markdown(run, tables)}\nKept in {path.relative_to(ROOT)} and {path.with_suffix('.md').name}")
    return 0


def _kind(run: dict[str, Any]) -> dict[str, Any]:
    """Return what rows that stand together must have in common."""
    return {"quick": run["quick"], **run["machine"], "load_before": None}


def _answers(bench: Bench, name: str, share: float) -> list[Table]:
    """Measure one row. An error in it is printed and kept in its table, and the other rows go on."""
    row, begun = ROWS[name], time.monotonic()
    print(f"{name} ...", end=" ", flush=True)
    try:
        if time.monotonic() > bench.ends_s:
            raise TimeoutError("the time was up")
        tables = row.ask(bench, (row.quick_s if bench.quick else row.full_s) * share)
    except (OSError, TimeoutError, ValueError, LookupError) as error:
        tables = [Table(name, name, [], failures={name: str(error)})]
    print(f"{time.monotonic() - begun:.0f} s", flush=True)
    for table in tables:
        for outcome in table.outcomes():
            observed = "" if outcome.observed is None else f"{outcome.observed.median:.3g}"
            print(f"  {outcome.verdict:<13}{table.title}: {table.wording(outcome.goal)}  {observed}")
        for contender, why in table.failures.items():
            print(f"  failed       {table.title}: {contender}: {why}")
    return tables


def _write_readme(results: str) -> int:
    """Write the section of README.md from a results file, the newest that is fit for it if none is named."""
    for path in [Path(results)] if results else sorted(RESULTS.glob("bench_*.json"), reverse=True):
        run, tables = load(path)
        if not (why := _unfit(run)):
            write("bench", performance(run, tables))
            return 0
        print(f"{path.name} is not for the README: {why}", file=sys.stderr)
    print("the README shows a full run of all rows: run `make bench` first", file=sys.stderr)
    return 1


def _unfit(run: dict[str, Any]) -> str:
    """Say why the README cannot show this run; empty if it can."""
    if run["quick"]:
        return "a quick run"
    absent = [name for name in ROWS if name not in run.get("rows", {})]
    return f"not measured: {', '.join(absent)}" if absent else ""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
