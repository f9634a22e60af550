"""What happens inside one process: the recorder's cost, its error and memory, the report, the start, idle users."""

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.contest import Bench
from bench.generators import LOCUST, LOCUSTFILES, locust
from bench.model import Column, Figures, Goal, Table
from bench.processes import ROOT, Process, free_port, wait_until

__all__ = ["recorder", "report", "startup", "users"]

INSIDE = ROOT / "bench" / "inside"
LIMIT_S = 240


def recorder(bench: Bench, limit_s: float) -> list[Table]:
    """Measure the cost of a recorded request, and the error of the quantiles."""
    cost = Table(
        "recorder",
        "Recording a request in Locust's own `request` event",
        [Column("cpu_us", "us of CPU per request")],
        goals=[Goal("added by asyncload", "cpu_us", "<=", 0.5)],
        notes=[
            "20 names, 2 % failures; medians of 25 pairs of 2,000 events with and without the listener, and its binning"
        ],
    )
    measured = _inside(bench, "recorder_cost.py", 4 if bench.quick else 12)
    for plain, added in zip(measured["without"], measured["added"], strict=True):
        rows = {"Locust alone": plain, "Locust and asyncload": plain + added, "added by asyncload": added}
        cost.rounds.append({name: {"cpu_us": value} for name, value in rows.items()})
    count = 2_000_000 if bench.quick else 10_000_000
    error = Table(
        "accuracy",
        f"Error of quantiles against numpy, {count:,} samples each",
        [Column(label, f"{label}, %") for label in ("largest", "p50", "p95", "p99", "p99.9")],
        goals=[Goal("all distributions", "largest", "<=", 0.1)],
    )
    errors = _inside(bench, "accuracy.py", count)
    one = {name: {"largest": max(of.values()), **of} for name, of in errors.items()}
    one["all distributions"] = {"largest": max(of["largest"] for of in one.values())}
    error.rounds.append(one)
    return [cost, error]


def report(bench: Bench, limit_s: float) -> list[Table]:
    """Measure memory and the time to the finished report after many requests."""
    count = 1_000_000 if bench.quick else 10_000_000
    goals = [Goal("asyncload", "report_s", "<=", 3), Goal("asyncload", "growth_mb", "<=", 5)]
    table = Table(
        "report",
        f"{count:,} requests, 50 endpoints",
        [
            Column("report_s", "s from the end to HTML, Markdown, JSON, JUnit"),
            Column("growth_mb", "MB more than after 100,000"),
            Column("add_us", "us of CPU per recorded request"),
        ],
        goals=goals,
    )
    directory = bench.directory / "report"
    directory.mkdir(exist_ok=True)
    figures = _inside(bench, "report_time.py", count, directory)
    if figures["requests"] != count:
        raise ValueError(f"{count} requests were recorded, the report has {figures['requests']}")
    early = "imported before" if figures["early_matplotlib"] else "not imported before"
    table.notes.append(f"matplotlib is {early} a report is drawn; its import is part of the time")
    table.rounds.append({"asyncload": {column.name: figures[column.name] for column in table.columns}})
    return [table]


def startup(bench: Bench, limit_s: float) -> list[Table]:
    """Measure `import asyncload_lib`, and `locust -f` from the command to the first page of the web UI."""
    rounds = 2 if bench.quick else 5
    imports = Table(
        "import",
        "Importing",
        [Column("ms", "ms")],
        goals=[Goal("import asyncload_lib", "ms", "<=", 50)],
        notes=["after the interpreter has started, with warm file caches"],
    )
    modules = {"import asyncload_lib": "asyncload_lib", "import locust": "locust"}
    bench.interleave(
        imports, {name: _importing(bench, of) for name, of in modules.items()}, rounds=rounds, limit_s=limit_s / 3
    )
    ready = Table(
        "startup",
        "`locust -f FILE` until its web UI answers",
        [Column("s", "s")],
        "stock locustfile",
        [Goal("locustfiles/chat.py", "s", "<=", 1.3, "stock locustfile")],
        ["chat.py starts the embedded target meanwhile: a backend, its blocking twin, Redis, a proxy and six machines"],
    )
    files = {
        "locustfiles/chat.py": ROOT / "locustfiles" / "chat.py",
        "stock locustfile": LOCUSTFILES / "stock_web.py",
    }
    bench.interleave(ready, {name: _serving(bench, of) for name, of in files.items()}, rounds=rounds, limit_s=limit_s)
    return [imports, ready]


def users(bench: Bench, limit_s: float) -> list[Table]:
    """Spawn many users that do nothing."""
    count = 2_000 if bench.quick else 10_000
    table = Table(
        "users",
        f"{count:,} idle users in one process",
        [Column("kib", "KiB per user"), Column("spawn_s", "s to spawn them all"), Column("cpu_s", "s of CPU")],
        "FastHttpUser",
        notes=["from the start of the test until the last user is in its task, at a spawn rate of all at once"],
    )
    files = {"asyncload": "idle_asyncload.py", "FastHttpUser": "idle_fast.py"}
    contenders = {name: _spawning(bench, of, count) for name, of in files.items()}
    return [bench.interleave(table, contenders, rounds=1 if bench.quick else 3, limit_s=limit_s)]


def _inside(bench: Bench, program: str, *arguments: object) -> Any:
    """Run a program of `bench/inside` and return the JSON that it prints."""
    with Process([sys.executable, INSIDE / program, *map(str, arguments)], bench.directory) as process:
        if process.wait(LIMIT_S) != 0:
            raise ValueError(f"{program}: {process.complaint()}")
        return json.loads(process.output.splitlines()[-1])


def _importing(bench: Bench, module: str) -> Callable[[], Figures]:
    program = f"import time; a = time.perf_counter(); import {module}; print((time.perf_counter() - a) * 1e3)"

    def measure() -> Figures:
        with Process([sys.executable, "-c", program], bench.directory) as process:
            process.wait(60)
            return {"ms": float(process.output)}

    return measure


def _serving(bench: Bench, file: Path) -> Callable[[], Figures]:
    def measure() -> Figures:
        port = free_port()
        web = ("--web-host", "127.0.0.1", "--web-port", str(port))
        command: list[str | Path] = [LOCUST, "-f", file, *web, "--loglevel", "ERROR"]
        begun = time.perf_counter()
        with Process(command, bench.directory, {"ASYNCLOAD_OUT": str(bench.directory / "reports")}) as process:
            wait_until(lambda: _page(port), f"{file.name}: no web UI", 60, 0.005)
            took_s = time.perf_counter() - begun
            process.terminate()  # ends the embedded target too
            process.wait(30)
        return {"s": took_s}

    return measure


def _page(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return bool(answer.status == 200)


def _spawning(bench: Bench, file: str, count: int) -> Callable[[], Figures]:
    def measure() -> Figures:
        kept = bench.directory / "idle.json"
        kept.unlink(missing_ok=True)
        environment = {"BENCH_OUT": str(kept), "BENCH_USERS": str(count)}
        with locust(bench, file, "http://127.0.0.1:9", count, environment=environment) as process:
            wait_until(lambda: kept.exists() or not process.running, "not all users came", 120, 0.05)
            if not kept.exists():
                raise ValueError(process.complaint())
        figures: Figures = json.loads(kept.read_text())
        return figures

    return measure
