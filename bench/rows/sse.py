"""Streams of 100 server-sent events: how many events a generator can read, and how late it notices them."""

import time
from collections.abc import Callable

from bench.contest import Bench, window
from bench.generators import locust
from bench.model import Column, Figures, Goal, Table
from bench.processes import GENERATOR_CORE
from bench.streams import EVENTS, Delays
from bench.targets import LedgerServer

__all__ = ["sse"]

LOCUSTFILES = {
    "asyncload": "asyncload_stream.py",
    "FastHttpUser": "fast_stream.py",
    "requests (genai-bench's way)": "requests_stream.py",
}
SPEED = [Column("rate", "events/s"), Column("cpu_us", "us of generator CPU per event")]
_SPEED = {column.name for column in SPEED}
DELAY = [
    Column("first_p50", "ms, first event p50"),
    Column("first_p99", "ms, first event p99"),
    Column("held_p99", "ms, first event in the user's hands p99"),
    Column("later_p99", "ms, other events p99"),
    Column("rate", "events/s"),
]


def sse(bench: Bench, limit_s: float) -> list[Table]:
    """Measure speed at 50 and 500 streams, then the delay at half of each generator's own speed."""
    server = bench.server("streams", lambda: LedgerServer(bench.directory / "streams"))
    rounds = 1 if bench.quick else 3
    tables = []
    for streams in (50,) if bench.quick else (50, 500):
        speed = Table(f"sse-{streams}", f"{streams} concurrent streams of {EVENTS} events", SPEED, "FastHttpUser")
        contenders = {name: _speed(bench, server, file, streams) for name, file in LOCUSTFILES.items()}
        tables.append(bench.interleave(speed, contenders, rounds=rounds, limit_s=limit_s / 4))
        delay = Table(
            f"sse-{streams}-delay",
            f"{streams} concurrent streams at half of the generator's own speed: error of an event's moment",
            DELAY,
            goals=[Goal("asyncload", "first_p99", "<=", 2)],
            notes=[
                "from the server's write of an event to the moment that the generator counts as its coming "
                "(asyncload: when it is read from the socket; the others: when the user holds it)",
                "each user's first stream is shorter, by chance, so that not all end and begin at once",
            ],
        )
        halves = {}
        for name, file in LOCUSTFILES.items():
            if capacity := speed.spread(name, "rate"):
                halves[name] = _delay(bench, server, file, streams, capacity.median / 2)
        tables.append(bench.interleave(delay, halves, rounds=rounds, limit_s=limit_s / 4))
    return tables


def _speed(bench: Bench, server: LedgerServer, file: str, streams: int) -> Callable[[], Figures]:
    def measure() -> Figures:
        figures = _read(bench, server, file, streams, 0, GENERATOR_CORE)
        return {name: value for name, value in figures.items() if name in _SPEED}

    return measure


def _delay(bench: Bench, server: LedgerServer, file: str, streams: int, events_per_s: float) -> Callable[[], Figures]:
    # On all cores, as it is used: threads that wait for one core are late, whatever the load.
    return lambda: _read(bench, server, file, streams, streams / events_per_s * 1e6, None)


def _read(bench: Bench, server: LedgerServer, file: str, streams: int, gap_us: float, core: int | None) -> Figures:
    """Let a generator read for the length of a window; raises ValueError if it ended a stream before its last event."""
    kept = bench.directory / "delays.npz"
    kept.unlink(missing_ok=True)
    server.reset()
    environment = {"BENCH_GAP_US": f"{gap_us:.0f}", "BENCH_OUT": str(kept)}
    with locust(bench, file, server.host, streams, environment=environment, core=core) as process:
        figures = window(process, server.events, bench.window_s)
        ended_ns = time.perf_counter_ns()
        process.terminate()
        process.wait(30)
    delays = Delays(kept, ended_ns - int(bench.window_s * 1e9), ended_ns)
    return {**figures, **delays.figures()}
