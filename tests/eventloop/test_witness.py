import asyncio
import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.eventloop.disagreement import disagreement, unexplained
from asyncload_lib.eventloop.findings import lag_key, middle_us
from asyncload_lib.eventloop.lag import LoopMonitor
from asyncload_lib.eventloop.listening import only_listener
from asyncload_lib.eventloop.witness import OutsideWitness, _Due
from asyncload_lib.report.one_sided import from_one_side
from tests.certificate import self_signed

pytestmark = pytest.mark.chance

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.0 200 OK\r\n\r\nok"
HINTED = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" + PLAIN


class Target:
    """An HTTP server on its own loop in its own thread, so that it can block without the witness's loop."""

    def __init__(self, answer: bytes, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.tls = tls
        self.answer, self.delay_s, self.requests = answer, 0.0, 0
        self.port = port
        self._listening = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        serving = asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self.tls, reuse_port=True)
        async with await serving as server:
            self.port = server.sockets[0].getsockname()[1]
            self._listening.set()
            await self._ended.wait()
            await asyncio.sleep(0.05)
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                await asyncio.sleep(self.delay_s)
                writer.write(self.answer)
                if self.answer is CLOSING:
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def block(self, seconds: float) -> None:
        self._loop.call_soon_threadsafe(time.sleep, seconds)

    def __enter__(self) -> "Target":
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def end(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._ended.set)

    def __exit__(self, *_: object) -> None:
        self.end()
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/health"


@pytest.fixture
def target() -> Iterator[Target]:
    with Target(PLAIN) as running:
        yield running


def watch(
    target: Target, *, block_s: float = 0.0, own_s: float = 0.0, after_s: float = 0.6, **options: Any
) -> dict[str, Any]:
    """Return the report on a target that is watched for 0.4 s, then blocked or not, and watched for `after_s` more."""

    async def main() -> dict[str, Any]:
        async with (
            LoopMonitor("generator") as monitor,
            OutsideWitness(target.url, monitor=monitor, limit_s=0.1, **options) as witness,
        ):
            await asyncio.sleep(0.4)
            if block_s:
                target.block(block_s)
            if own_s:
                time.sleep(own_s)
            await asyncio.sleep(after_s)
        return witness.report()

    return asyncio.run(main())


def test_of_a_target_that_was_dead_for_a_while_nothing_is_known(target: Target) -> None:
    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with OutsideWitness(target.url, limit_s=0.1) as witness:
            while witness._answered < 20:
                await asyncio.sleep(0.01)
            alive = witness.report()
            target.end()
            while witness._failures < 20:
                await asyncio.sleep(0.01)
        return alive, witness.report()

    alive, dead = asyncio.run(main())

    assert (alive["blocked"], alive["proven_stall"]) == (False, 0.0)
    assert (dead["blocked"], dead["proven_stall"], dead["stalls"]) == (None, None, 0)
    assert "): what the loop did meanwhile is unknown." in dead["note"]


@pytest.mark.parametrize(
    "answer", [PLAIN, CHUNKED, CLOSING, HINTED], ids=["length", "chunks", "until it closes", "hint"]
)
def test_a_blocked_target_is_seen_from_outside(answer: bytes) -> None:
    with Target(answer) as target:
        report = watch(target, block_s=0.4)

    assert (report["witness"], report["blocked"], report["stalls"]) == ("outside", True, 1)
    assert report["max_stall"] == pytest.approx(0.4, abs=0.1)
    assert report["stall_times"][0]["t"] == pytest.approx(0.4, abs=0.15)
    assert report["lag"]["max"] > 0.25


def test_a_target_that_answers_is_not_blocked(target: Target) -> None:
    report = watch(target)

    assert (report["blocked"], report["stalls"]) == (False, 0)
    assert target.requests == pytest.approx(50, abs=25)


def test_the_generators_own_lag_is_not_charged_to_the_target(target: Target) -> None:
    report = watch(target, own_s=0.4)

    assert report["max_stall"] < 0.1
    assert report["blocked"] is False


def test_where_every_answer_is_slow_it_does_not_pretend_to_know(target: Target) -> None:
    target.delay_s = 0.15

    report = watch(target)

    assert report["blocked"] is None
    assert "look the same" in report["note"]


def test_no_answer_is_no_verdict() -> None:
    with Target(PLAIN) as target:
        pass

    report = watch(target, after_s=0.0)

    assert report["blocked"] is None
    assert "ConnectionRefusedError" in report["note"]
    assert report["lag"]["p50"] is None


def test_what_was_never_answered_counts_with_its_age(target: Target) -> None:
    """More probes are due than there are connections: those in flight and those that wait for one both count."""

    async def main() -> list[dict[str, Any]]:
        async with OutsideWitness(target.url, limit_s=0.1) as witness:
            await asyncio.sleep(1.0)
            target.block(1.2)
            await asyncio.sleep(0.7)
            during = witness.report()
        return [during, witness.report()]

    for report in asyncio.run(main()):
        assert (report["blocked"], report["stalls"]) == (True, 1)
        assert report["max_stall"] == pytest.approx(0.7, abs=0.2)


def test_a_worker_that_took_none_of_the_first_connections_is_seen_too(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncload_lib.eventloop.witness.LINE_S", 0.1)

    async def main() -> dict[str, Any]:
        async with OutsideWitness(target.url, limit_s=0.1) as witness:
            while target.requests < 20:
                await asyncio.sleep(0.01)
            with Target(PLAIN, port=target.port) as other:
                for _ in range(100):
                    if other.requests > 20:
                        break
                    await asyncio.sleep(0.1)
                assert other.requests > 20, "no connection was ever opened anew"
                while not witness._stalls(0.0, []):
                    other.block(0.3)
                    await asyncio.sleep(0.5)
        return witness.report()

    report = asyncio.run(main())

    assert report["blocked"] is True
    assert "failed" not in report["note"]


def test_a_connection_that_is_reset_as_soon_as_it_is_open_ends_no_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is gone again, a loop may say nothing (uvloop), or something nobody thought of."""
    refused: list[str] = []

    def of_none(writer: asyncio.StreamWriter, name: str) -> None:
        refused.append(name)
        if len(refused) < 5:
            raise AttributeError("the handle is closed")

    async def main(target: Target) -> dict[str, Any]:
        async with asyncio.timeout(20), OutsideWitness(target.url, limit_s=0.1) as witness:
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.StreamWriter, "get_extra_info", of_none)
                while len(refused) < 8:
                    await asyncio.sleep(0.01)
            while target.requests < 3:
                await asyncio.sleep(0.01)
            return witness.report()

    with Target(PLAIN) as target:
        report = asyncio.run(main(target))
    assert "AttributeError" in report["note"]


def test_where_no_new_connection_is_to_be_had_the_old_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncload_lib.eventloop.witness.LINE_S", 0.1)
    dialled = 0
    open_connection = asyncio.open_connection

    async def first_four(*address: Any, **options: Any) -> Any:
        nonlocal dialled
        dialled += 1
        if dialled > 4:
            raise ConnectionRefusedError("full")
        return await open_connection(*address, **options)

    monkeypatch.setattr(asyncio, "open_connection", first_four)
    with Target(PLAIN) as target:
        report = watch(target, block_s=0.4)

    assert dialled > 8
    assert (report["blocked"], report["stalls"]) == (True, 1)
    assert "failed" not in report["note"]


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_an_answer_of_somebody_else_is_no_proof(status: int) -> None:
    with Target(b"HTTP/1.1 %d Text\r\nContent-Length: 2\r\n\r\nno" % status) as target:
        report = watch(target, after_s=0.0)

    assert report["blocked"] is None
    assert re.search(
        rf"\d+ check requests were answered with HTTP {status}\. Such answers prove nothing", report["note"]
    )
    assert "not seen from outside" in from_one_side([report])


def test_a_few_refusals_among_answers_are_told(target: Target) -> None:
    good, bad = target.answer, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"

    async def main() -> dict[str, Any]:
        async with OutsideWitness(target.url) as witness:
            for answer in (good, bad, good):
                answered = target.requests
                target.answer = answer
                while target.requests < answered + (5 if answer is bad else 20):
                    await asyncio.sleep(0.002)
            await asyncio.sleep(0.1)
        return witness.report()

    report = asyncio.run(main())

    assert report["blocked"] is not None
    assert re.search(r"\d+ check requests were answered with HTTP 503\.$", report["note"])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1\r\n\r\n", "ValueError"),
        (b"HTTP/1.1 ok\r\n\r\n", "ValueError"),
        (b"HTTP/1.1 200 OK\r\nX: " + bytes(200_000) + b"\r\n\r\n", "LimitOverrunError"),
    ],
)
def test_what_is_no_answer_is_a_failure(answer: bytes, error: str) -> None:
    with Target(answer) as target:
        report = watch(target, after_s=0.0)

    assert report["blocked"] is None
    assert f"No check request was answered: {error}" in report["note"]


def test_a_probe_that_times_out_is_a_stall(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncload_lib.eventloop.witness.TIMEOUT_S", 0.3)

    report = watch(target, block_s=0.45, rate=4)

    assert (report["blocked"], report["stalls"]) == (True, 1)
    assert report["max_stall"] == pytest.approx(0.3, abs=0.1)
    assert "TimeoutError" in report["note"]


def test_after_any_number_of_probes_a_stall_is_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncload_lib.eventloop.witness.SLOWEST", 10)

    async def main() -> dict[str, Any]:
        witness = OutsideWitness("http://127.0.0.1:1/health", rate=50, limit_s=0.01)
        witness.reset()
        hour_s = 3600
        for number in range(50 * hour_s):
            due = witness._started_ns + number * 20_000_000
            witness._record(due, due + 1_000_000)
        for late_s in (0.3, 0.5):
            due += 1_000_000_000
            witness._record(due, due + int(late_s * 1e9))
        assert len(witness._slowest) == 10
        return witness.report()

    report = asyncio.run(main())

    assert (report["blocked"], report["stalls"]) == (True, 2)
    assert report["max_stall"] == pytest.approx(0.5, rel=0.01)
    assert report["lag"]["max"] == pytest.approx(0.499, rel=0.001)
    assert report["stall_times"][-1]["t"] == pytest.approx(3602, abs=1)
    assert len(report["series"]) <= 300
    assert max(row["max_lag"] for row in report["series"]) == pytest.approx(0.499, rel=0.001)


@pytest.mark.parametrize(
    ("beside", "late_s", "blocked", "proven_s"),
    [
        (0, 0.05, True, 0.05),
        (1, 0.015, True, 0.015),  # what the probe itself takes is the usual answer's
        (4, 0.05, True, 0.0125),  # one of four had the loop for a quarter at least
        (50, 0.05, None, 0.001),
        (50, 1.0, True, 0.02),
        (50, 0.005, False, 0.0),
    ],
)
def test_a_queue_of_the_load_is_not_taken_for_a_blocked_loop(
    beside: int, late_s: float, blocked: bool | None, proven_s: float
) -> None:
    begun, ended = 100, 100

    async def main() -> dict[str, Any]:
        nonlocal begun
        witness = OutsideWitness("http://127.0.0.1:1/health", limit_s=0.01, load=lambda: (begun, ended))
        for number in range(100):
            due = witness._started_ns + number * 1_000_000_000
            witness._open[due] = _Due(ended)
            begun = ended + (beside if number == 50 else 0)
            witness._record(due, due + 1_000_000 + (int(late_s * 1e9) if number == 50 else 0))
        return witness.report()

    report = asyncio.run(main())

    assert report["blocked"] is blocked
    assert report["proven_stall"] == pytest.approx(proven_s, rel=0.05)
    assert report["max_stall"] == pytest.approx(late_s if late_s > 0.01 else 0.0, rel=0.05)
    assert (f"while {beside} requests of the load" in report["note"]) is (blocked is None)


@pytest.mark.parametrize(
    ("late_ms", "delay_ms", "is_here", "stall_ms"),
    [
        (25, 0, True, 25),
        (25, 20, True, 0),
        (70, 20, True, 50),  # what is left is over the limit
        (25, 20, False, 25),  # of another machine nothing is known, whoever listens at that port here
    ],
)
def test_what_the_target_waited_for_a_cpu_is_no_stall_of_its_loop(
    late_ms: int, delay_ms: int, is_here: bool, stall_ms: int
) -> None:
    ms = 10**6

    async def main() -> dict[str, Any]:
        witness = OutsideWitness("http://127.0.0.1:1/health", limit_s=0.01)
        witness._is_here = is_here
        for number in range(100):
            due = witness._started_ns + number * 1000 * ms
            witness._open[due] = _Due(0, 0)
            is_late = number == 50
            witness._delay_ns = lambda is_late=is_late: delay_ms * ms * is_late  # type: ignore[method-assign,misc]
            witness._record(due, due + ms + late_ms * ms * is_late)
        return witness.report()

    report = asyncio.run(main())

    assert report["blocked"] is bool(stall_ms)
    assert report["proven_stall"] == pytest.approx(stall_ms / 1e3, abs=0.001)
    assert ("1 answer was late, by up to 25.0 ms" in report["note"]) is (not stall_ms)


SERVER = """
import asyncio, sys, time
async def answer(reader, writer):
    while await reader.readline():
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]), reuse_port=True)
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:
        await asyncio.sleep(0.4)
        time.sleep(float(sys.argv[2]))
asyncio.run(main())
"""

RIVAL = """
import time
while True:
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        pass
    time.sleep(0.3)
"""


@contextlib.contextmanager
def process(code: str, *arguments: object) -> Iterator[tuple[int, str]]:
    """Run it in a process of its own; its identifier, and the first line that it says."""
    command = [sys.executable, "-uc", f"{code.strip()}\n", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running.pid, running.stdout.readline().strip() if "print" in code else ""
        finally:
            running.kill()


@pytest.mark.skipif(
    not hasattr(os, "SCHED_IDLE"), reason="the kernel tells on Linux alone how long a CPU was waited for"
)
@pytest.mark.parametrize("block_s", [0, 0.1])
def test_a_machine_that_is_busy_is_told_from_a_loop_that_is_blocked(block_s: float) -> None:
    """The target gives way to another process, on the one CPU that both have, for 0.1 s at a time."""
    cpu = {max(os.sched_getaffinity(0))}
    with process(SERVER, 0, block_s) as (target, port), process(RIVAL) as (rival, _):
        os.sched_setaffinity(target, cpu)
        os.sched_setaffinity(rival, cpu)
        os.sched_setscheduler(target, os.SCHED_IDLE, os.sched_param(0))

        async def main() -> dict[str, Any]:
            url = f"http://127.0.0.1:{port}/health"
            async with LoopMonitor() as monitor, OutsideWitness(url, monitor=monitor, limit_s=0.05) as witness:
                await asyncio.sleep(2)
            return witness.report()

        report = asyncio.run(main())

    assert report["blocked"] is bool(block_s), report
    assert block_s or "because this machine gave the target's process no CPU" in report["note"]


def test_who_alone_listens_at_a_port_is_found() -> None:
    with process(SERVER, 0, 0) as (first, port):
        assert only_listener(int(port)) == first
        with process(SERVER, port, 0):
            assert only_listener(int(port)) is None
    with socket.create_server(("127.0.0.1", 0)) as own:
        assert only_listener(own.getsockname()[1]) is None


def test_no_percentile_is_over_the_largest_lag() -> None:
    late_us = next(us for us in range(5_000, 9_000) if middle_us(lag_key(us)) > us)  # in a bucket that reads higher

    async def main() -> dict[str, Any]:
        witness = OutsideWitness("http://127.0.0.1:1/health")
        for number in range(100):
            sent = witness._started_ns + number
            witness._record(sent, sent + (late_us if number > 90 else 1_000) * 1_000)
        return witness.report()

    lag = asyncio.run(main())["lag"]

    assert lag["p99"] == lag["max"] == pytest.approx((late_us - 1_000) / 1e6)


def test_what_is_begun_while_a_probe_is_on_its_way_is_beside_it() -> None:
    """It may have been served first; what was over before the probe was due cannot have been."""
    load = [7, 4]

    async def main() -> dict[str, Any]:
        witness = OutsideWitness("http://127.0.0.1:1/health", limit_s=0.01, load=lambda: (load[0], load[1]))
        for number in range(10):
            witness._record(witness._started_ns + number, witness._started_ns + number + 1_000_000)
        pacing = asyncio.create_task(witness._pace())
        while not witness._open:
            await asyncio.sleep(0)
        pacing.cancel()
        (due,) = witness._open
        load[:] = [9, 9]
        witness._record(due, due + 601_000_000)
        return witness.report()

    report = asyncio.run(main())

    assert report["max_stall"] == pytest.approx(0.6, rel=0.01)
    assert report["proven_stall"] == pytest.approx(0.6 / 5, rel=0.01)


def test_stalls_beyond_those_kept_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncload_lib.eventloop.witness.SLOWEST", 10)

    async def main() -> dict[str, Any]:
        witness = OutsideWitness("http://127.0.0.1:1/health", limit_s=0.01)
        for number in range(100):
            due = witness._started_ns + number * 1_000_000_000
            witness._record(due, due + (200_000_000 if number % 3 == 0 else 1_000_000))
        return witness.report()

    report = asyncio.run(main())

    assert (report["blocked"], report["stalls"]) == (True, 10)
    assert "there were more stalls" in report["note"]


def test_any_certificate_is_taken(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))
    with Target(PLAIN, context) as target:
        report = watch(target, after_s=0.0)

    assert report["blocked"] is False, report["note"]


def test_a_wrong_address_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="http"):
        OutsideWitness("ftp://somewhere")


def report(blocked: bool | None, max_stall: float, lag: float = 0.0, proven: float | None = None) -> dict[str, Any]:
    row = {"blocked": blocked, "max_stall": max_stall, "lag": {"max": lag}, "limit_s": 0.01, "period_s": 0.02}
    return {**row, "proven_delay": proven, "proven_stall": proven and proven / 2}


@pytest.mark.parametrize(
    ("inside", "outside", "says"),
    [
        (report(True, 0.3), report(True, 0.29), None),
        (report(False, 0.0), report(False, 0.0), None),
        (report(True, 0.015), report(False, 0.0), None),  # it fell between two probes
        (report(True, 0.3), report(False, 0.0), "inside, a stall of 300 ms"),
        (report(True, 0.3), report(None, 0.0), "the outside one could not tell"),
        (report(None, 0.0), report(True, 0.3), "the inside one could not tell"),
    ],
)
def test_the_witnesses_are_compared(inside: dict[str, Any], outside: dict[str, Any], says: str | None) -> None:
    sentence = disagreement(inside, outside)

    assert (sentence is None) if says is None else (sentence is not None and says in sentence)


@pytest.mark.parametrize(
    ("inside", "proven", "says"),
    [
        ([report(False, 0.0)], 0.3, "late by 300 ms and a stall of at least 150 ms is proven, but the loop"),
        ([report(True, 0.02)], 0.3, "never late by more than 20 ms. The other 280 ms were several such lags"),
        ([report(False, 0.0), report(False, 0.0, lag=0.1)], 0.3, "the loops that were read were never late"),
        ([report(False, 0.0), report(True, 0.29)], 0.3, None),  # it was in the other worker, which was read
        ([report(False, 0.0, lag=0.3)], 0.3, None),  # a queue is late for both
        ([report(False, 0.0)], 0.025, None),  # in the noise of the two
        ([report(False, 0.0)], 0.0, None),
        ([report(False, 0.0)], None, None),  # the one outside could not tell
    ],
)
def test_a_proven_stall_that_no_worker_felt_is_unexplained(
    inside: list[dict[str, Any]], proven: float | None, says: str | None
) -> None:
    sentence = unexplained(inside, report(True, 1.0, proven=proven))

    assert (sentence is None) if says is None else (sentence is not None and says in sentence)


def test_only_the_delay_that_proves_something_counts() -> None:
    """One of fifty that is late by a second has kept nothing for long; one that is late alone has."""
    begun = 100

    async def main() -> dict[str, Any]:
        nonlocal begun
        witness = OutsideWitness("http://127.0.0.1:1/health", limit_s=0.025, load=lambda: (begun, 100))
        for number in range(100):
            due = witness._started_ns + number * 2_000_000_000
            witness._open[due] = _Due(100)
            beside, late_s = {50: (50, 1.0), 70: (1, 0.1)}.get(number, (0, 0.0))
            begun = 100 + beside
            witness._record(due, due + 1_000_000 + int(late_s * 1e9))
        return witness.report()

    report = asyncio.run(main())

    assert report["max_stall"] == pytest.approx(1.0, rel=0.01)
    assert report["proven_stall"] == report["proven_delay"] == pytest.approx(0.1, rel=0.01)
