"""The target's loop seen from outside: a request at a fixed rate to an endpoint that does nothing.

Latency counts from the intended send time (a slow answer cannot hide the requests behind it), less the time in which
the generator's own loop was late. What then exceeds the usual answer by more than the limit is a stall; its length is
a lower bound, short by one interval at most. It has no culprit, and a loop with a long queue looks like a blocked one.
Where n requests of the load were on their way too, at least one of them kept the loop for the n-th part of the stall
(the probe's own time is in the usual answer). Only if that part is over the limit is a stall proven. If it is not, or
if even the usual answer takes longer than the limit, the witness says that it cannot tell (`blocked` is None).

A target that waits for a CPU is as late as one that is blocked. Where a single process on this very machine listens at
its port, the kernel tells how long its main thread, which runs the loop, was runnable without a CPU while a probe was
on its way: that is taken off too. Of another machine, or of several workers, nothing of the kind is known.
"""

import asyncio
import contextlib
import heapq
import ssl
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from .clocks import DelayMeter
from .findings import MAX_BUCKETS, MAX_STALL_TIMES, counted, lag_key, middle_us
from .heartbeat import LIMIT_S
from .lag import LoopMonitor
from .listening import only_listener

__all__ = ["OutsideWitness"]

CONNECTIONS = 4
"""Connections that the probes share, so that a slow answer does not hold up the next one."""
BLIND_SHARE = 0.05
"""If more than this share of the probes fail, nobody knows what the loop did meanwhile."""
LINE_S = 2.0
"""How long a connection is used. It shows only the one worker that took it; the next may be taken by another."""
TIMEOUT_S = 30.0
"""After this time without an answer a probe has failed."""
NS = 1e9
REFUSED = 400
"""The lowest HTTP status that is no answer of the endpoint itself."""
SLOWEST = 10_000
"""Probes that are kept one by one: the slowest, so that a long run loses no stall. All others are only counted."""


class _Due(NamedTuple):
    """What was known when a probe was due: how many requests of the load were over, and how long the target had waited
    for a CPU so far."""

    over: int
    delay_ns: int = 0


class _Probe(NamedTuple):
    """One check request: its latency less the generator's own share, its intended send time and its end."""

    latency_ns: int
    sent_ns: int
    ended_ns: int
    beside: int
    """How many requests of the load were on their way at some time between the two."""
    delay_ns: int
    """How long the target waited for a CPU between the two; 0 where that is not known."""


class _Stall(NamedTuple):
    """One stall seen from outside. `at_least_s`: the part that one request alone must have taken (see above)."""

    start_s: float
    length_s: float
    at_least_s: float
    beside: int


class _Line(NamedTuple):
    """A connection, and until when it is used."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    until_s: float


class OutsideWitness:
    """Sends `rate` GET requests a second to `url` from the running loop; `async with`, or start() and await stop().

    `monitor` watches the generator's own loop; without one its lag is not taken off. `load` gives how many requests
    have been sent to the target so far, and how many of those are over; without it there are none. Answers are a status
    line, headers and a body with Content-Length or chunks. A status of 400 or above is an answer too, but where most
    are such somebody else may have answered, and the witness says that it cannot tell.
    """

    def __init__(
        self,
        url: str,
        rate: float = 50.0,
        limit_s: float = LIMIT_S,
        monitor: LoopMonitor | None = None,
        load: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or rate <= 0:
            raise ValueError(f"url must be http(s)://host/path and rate over 0, not {url!r} and {rate}")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = _any_certificate() if parts.scheme == "https" else None
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "asyncload", "Accept": "*/*"}
        head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        self._request = f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
        self._interval_s = 1 / rate
        self._limit_s = limit_s
        self._monitor = monitor
        self._load = load
        self._tasks: list[asyncio.Task[None]] = []
        self._due: asyncio.Queue[int] = asyncio.Queue()
        self._open: dict[int, _Due] = {}
        """Each probe that is due or on its way, by its intended send time."""
        self._meter: DelayMeter | None = None
        self._is_here = False
        """Whether the target is on this machine."""
        self.reset()

    def reset(self) -> None:
        """Begin anew: probes sent from now on count, and none of them waits for those that were due before."""
        while not self._due.empty():
            self._open.pop(self._due.get_nowait(), None)
        self._started_ns = time.perf_counter_ns()
        self._ended_ns: int | None = None
        self._answered = 0
        self._latencies: dict[int, int] = {}
        self._fastest_ns: int | None = None
        self._slowest: list[_Probe] = []
        self._left_out = False
        self._series: dict[int, int] = {}
        self._width_ns = 1_000_000_000
        self._failures = 0
        self._error = ""
        self._refusals: Counter[int] = Counter()

    def start(self) -> None:
        """Begin to send."""
        self.reset()
        paced, found = self._pace(), self._find_target()
        self._tasks = [asyncio.create_task(task, name="outside witness") for task in (paced, found)]
        ages_s = (number * LINE_S / CONNECTIONS for number in range(CONNECTIONS))
        self._tasks += [asyncio.create_task(self._connection(age_s), name="outside witness") for age_s in ages_s]

    async def stop(self) -> None:
        """Stop sending, close the connections; the report stays. Probes still unanswered count with their age."""
        now = time.perf_counter_ns()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        for sent in sorted(self._open):
            self._record(sent, now, answered=False)
        self._open.clear()
        if self._meter is not None:
            self._meter.close()
            self._meter = None
        self._due = asyncio.Queue()
        self._ended_ns = now

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def report(self) -> dict[str, Any]:
        """What was seen since the start or the last reset, in the same form as a monitor's report; seconds.

        A probe that is still due or on its way counts with its age.
        """
        now = self._ended_ns or time.perf_counter_ns()
        usual_s = self._quantile(0.5)
        unanswered = [self._probe(sent, now) for sent in self._open if sent >= self._started_ns]
        stalls = self._stalls(usual_s or 0.0, unanswered)
        proven_s = max((stall.at_least_s for stall in stalls), default=0.0)
        lengths = [stall.length_s for stall in stalls]
        proven_lengths = [stall.length_s for stall in stalls if stall.at_least_s >= self._limit_s]
        can_tell = usual_s is not None and usual_s < self._limit_s and not self._is_refused
        can_tell = can_tell and (bool(stalls) or not self._is_blind)
        is_queue = can_tell and bool(stalls) and proven_s < self._limit_s
        return {
            "name": "target (outside)",
            "witness": "outside",
            "watched_s": (now - self._started_ns) / NS,
            "period_s": self._interval_s,
            "limit_s": self._limit_s,
            "max_stall": max(lengths, default=0.0),
            "stalls": len(stalls),
            "blocked_s": sum(lengths),
            "blocked": bool(stalls) if can_tell and not is_queue else None,
            "proven_stall": proven_s if can_tell else None,
            "proven_delay": max(proven_lengths, default=0.0) if can_tell else None,
            "lag": {"p50": self._lag(usual_s), "p99": self._lag(self._quantile(0.99)), "max": self._lag(self._max_s)},
            "by_cause": {},
            "culprits": [],
            "series": [
                {"t": bucket * self._width_ns / NS, "max_lag": self._lag(worst / NS)}
                for bucket, worst in sorted(self._series.items())
            ],
            "stall_times": [
                {"t": stall.start_s, "length": stall.length_s, "cause": "loop"} for stall in stalls[:MAX_STALL_TIMES]
            ],
            "note": self._note(usual_s, max(stalls, key=lambda stall: stall.length_s) if is_queue else None),
        }

    def _note(self, usual_s: float | None, queue: _Stall | None) -> str:
        notes = [
            f"Seen from outside with {1 / self._interval_s:.0f} check requests per second: a stall shows only if one of"
            " them falls into it."
        ]
        if usual_s is None:
            notes.append(f"No check request was answered{': ' + self._error if self._error else ''}.")
        elif self._failures:
            blind = ": what the loop did meanwhile is unknown" if self._is_blind else ""
            notes.append(f"{counted(self._failures, 'check request')} failed ({self._error}){blind}.")
        for status, times in sorted(self._refusals.items()):
            were = "was" if times == 1 else "were"
            notes.append(f"{counted(times, 'check request')} {were} answered with HTTP {status}.")
        if self._is_refused:
            notes.append(
                "Such answers prove nothing about the loop: name an endpoint that answers with a status below 400"
                " (loop.witness_path)."
            )
        if usual_s is not None and usual_s >= self._limit_s:
            notes.append(
                f"The usual answer took {usual_s * 1e3:.1f} ms, longer than the limit: seen from outside, a long queue"
                " and a blocked loop look the same. Mount the LoopProbe to tell them apart."
            )
        if queue is not None:
            notes.append(
                f"An answer was late by {queue.length_s * 1e3:.1f} ms while {counted(queue.beside, 'request')} of the"
                f" load {'was' if queue.beside == 1 else 'were'} in flight: seen from outside, a queue of those"
                " requests and a blocked loop look the same."
            )
        if starved := self._starved(usual_s or 0.0):
            notes.append(
                f"{counted(len(starved), 'answer')} {'was' if len(starved) == 1 else 'were'} late, by up to"
                f" {max(starved) * 1e3:.1f} ms, because this machine gave the target's process no CPU: that is not a"
                " stall of its loop."
            )
        if self._left_out and self._slowest[0].latency_ns / NS - (usual_s or 0.0) >= self._limit_s:
            notes.append(f"Only the {SLOWEST} slowest check requests were examined: there were more stalls than these.")
        return " ".join(notes)

    @property
    def _is_blind(self) -> bool:
        return self._failures > BLIND_SHARE * (self._answered + self._failures)

    @property
    def _is_refused(self) -> bool:
        return 2 * self._refusals.total() > self._answered

    @property
    def _max_s(self) -> float | None:
        return max(self._series.values()) / NS if self._series else None

    def _lag(self, latency_s: float | None) -> float | None:
        if latency_s is None or self._fastest_ns is None:
            return None
        return max(0.0, latency_s - self._fastest_ns / NS)

    def _quantile(self, q: float) -> float | None:
        wanted = q * self._answered
        for key in sorted(self._latencies):
            wanted -= self._latencies[key]
            if wanted <= 0:
                return min(middle_us(key) / 1e6, self._max_s or 0.0)
        return None

    def _stalls(self, usual_s: float, unanswered: list[_Probe]) -> list[_Stall]:
        """Return the stalls; slow probes that overlap saw the same one, the slowest tells its length."""
        stalls: list[_Stall] = []
        end_ns = 0
        for probe in sorted([*self._slowest, *unanswered], key=lambda probe: probe.sent_ns):
            length_s = (probe.latency_ns - probe.delay_ns) / NS - usual_s
            if length_s < self._limit_s:
                continue
            start_s = max(0.0, (probe.sent_ns - self._started_ns) / NS)
            stall = _Stall(start_s, length_s, length_s / max(1, probe.beside), probe.beside)
            if stalls and probe.sent_ns < end_ns:
                same = stalls[-1]
                longer = max(same, stall, key=lambda each: each.length_s)
                at_least_s = max(same.at_least_s, stall.at_least_s)
                stalls[-1] = longer._replace(start_s=same.start_s, at_least_s=at_least_s)
            else:
                stalls.append(stall)
            end_ns = max(end_ns, probe.ended_ns)
        return stalls

    def _starved(self, usual_s: float) -> list[float]:
        """Return by how much each answer was late that was late only because the target had no CPU."""
        late = [(probe.latency_ns / NS - usual_s, probe.delay_ns / NS) for probe in self._slowest]
        return [late_s for late_s, delay_s in late if late_s - delay_s < self._limit_s <= late_s]

    def _probe(self, sent_ns: int, ended_ns: int) -> _Probe:
        own = self._monitor.own_share(sent_ns, ended_ns) if self._monitor is not None else 0
        begun, _ = self._load()
        delay_ns = self._delay_ns()
        due = self._open.get(sent_ns, _Due(begun, delay_ns))
        beside, delay_ns = max(0, begun - due.over), max(0, delay_ns - due.delay_ns) if self._is_here else 0
        return _Probe(max(0, ended_ns - sent_ns - own), sent_ns, ended_ns, beside, delay_ns)

    def _delay_ns(self) -> int:
        return self._meter.run_delay_ns() if self._meter is not None else 0

    def _record(self, sent_ns: int, ended_ns: int, answered: bool = True, status: int = 0) -> None:
        if sent_ns < self._started_ns:
            return
        probe = self._probe(sent_ns, ended_ns)
        latency = probe.latency_ns
        if len(self._slowest) < SLOWEST:
            heapq.heappush(self._slowest, probe)
        else:
            self._left_out = True
            heapq.heappushpop(self._slowest, probe)
        if not answered:
            return
        self._answered += 1
        if status >= REFUSED:
            self._refusals[status] += 1
        key = lag_key(latency // 1000)
        self._latencies[key] = self._latencies.get(key, 0) + 1
        self._fastest_ns = latency if self._fastest_ns is None else min(self._fastest_ns, latency)
        while (bucket := (sent_ns - self._started_ns) // self._width_ns) >= MAX_BUCKETS:
            self._width_ns *= 2
            halved: dict[int, int] = {}
            for old, worst in self._series.items():
                halved[old // 2] = max(worst, halved.get(old // 2, 0))
            self._series = halved
        self._series[bucket] = max(latency, self._series.get(bucket, 0))

    async def _find_target(self) -> None:
        # In a thread: to look through all processes takes 20 ms.
        listener = await asyncio.get_running_loop().run_in_executor(None, only_listener, self._port)
        self._meter = DelayMeter(listener) if listener is not None else None

    async def _pace(self) -> None:
        due = time.perf_counter()
        while True:
            due += self._interval_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent = int(due * 1e9)
            self._open[sent] = _Due(self._load()[1], self._delay_ns())
            self._due.put_nowait(sent)

    async def _connection(self, age_s: float) -> None:
        line: _Line | None = None
        try:
            while True:
                due = await self._due.get()
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        if line is None:
                            line = await self._open_line(age_s)
                            age_s = 0.0
                        line.writer.write(self._request)
                        status, keep = await _read_answer(line.reader)
                    self._record(due, time.perf_counter_ns(), status=status)
                except (
                    Exception
                ) as error:  # whatever it is: of a witness that has ended, all probes would be unanswered
                    keep = False
                    self._failures += 1
                    self._error = f"{type(error).__name__}: {error}"[:200]
                    if isinstance(error, TimeoutError):  # no answer in so long is a stall, not merely a failure
                        self._record(due, time.perf_counter_ns(), answered=False)
                self._open.pop(due, None)
                if line is not None and not keep:
                    line.writer.close()
                    line = None
                elif line is not None and time.perf_counter() > line.until_s:
                    line = await self._renewed(line)
        except asyncio.CancelledError:
            if line is not None:
                line.writer.close()
                with contextlib.suppress(OSError):
                    await line.writer.wait_closed()
            raise

    async def _open_line(self, age_s: float = 0.0) -> _Line:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        try:
            here, there = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        except BaseException:
            writer.close()
            raise
        if here and there:  # uvloop has neither of a connection that was reset at once
            self._is_here = here[0] == there[0]
        return _Line(reader, writer, time.perf_counter() + LINE_S - age_s)

    async def _renewed(self, line: _Line) -> _Line:
        """Return a new connection, which another worker may take; the old one if none can be opened now.

        It is opened between two probes, so the time it takes is part of no latency.
        """
        try:
            async with asyncio.timeout(LINE_S):
                new = await self._open_line()
        except Exception:  # as in `_connection`, where it counts once the old one is of no use either
            return line._replace(until_s=time.perf_counter() + LINE_S)
        line.writer.close()
        return new


def _any_certificate() -> ssl.SSLContext:
    """Return a context that accepts any certificate, as the users do: a target that takes load must be watched, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read one HTTP/1.1 answer to its end; its status, and whether the connection can be kept."""
    status = 0
    while status < 200:  # 103 and its like come before the answer
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, code, *_ = head.split(None, 2)
        status = int(code)
    headers = dict(line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    keep = head.startswith(b"http/1.1") and b"close" not in headers.get(b"connection", b"")
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        while (await reader.readline()).strip():
            pass
    elif b"content-length" in headers:
        await reader.readexactly(int(headers[b"content-length"]))
    elif status not in (204, 304):
        await reader.read(-1)
        return status, False
    return status, keep
