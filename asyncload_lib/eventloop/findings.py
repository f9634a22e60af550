"""What a monitor found: the lag's distribution, its course over time, the stalls and their culprits.

Standard library only, for it runs inside the target too. Times in; seconds out, as the results file has them.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .attribution import CAUSES
from .places import Spot, described, excerpt

__all__ = ["Findings", "counted", "lag_key", "middle_us"]

MAX_BUCKETS = 300
"""Of the series; a longer run has wider buckets."""
MAX_STALL_TIMES = 200
MAX_CULPRITS = 50
"""What comes beyond is added up for each cause, under the place that comes first; the task is then OTHERS."""
OTHERS = "and others"
MAX_MISSED_BEATS = 1000
"""Counted for one late beat."""
NS = 1e9
TOUCHING_NS = 5_000_000
"""A late beat this close to an operation's start or end delayed it: both were in the same few turns of the loop."""
FINE_NS, FINE_SHIFT = 1 << 20, 14
"""Lags under a millisecond (2^20 ns) are counted in steps of 16 us (2^14): the healthy beat's path must be short."""


@dataclass(slots=True)
class Stalls:
    """A number of stalls, or of other late beats, and their lengths."""

    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0

    def add(self, length_s: float) -> None:
        """Count one more."""
        self.count += 1
        self.total_s += length_s
        self.longest_s = max(self.longest_s, length_s)


@dataclass(slots=True)
class Culprit:
    """A line of source, the task and the cause, and the stalls that are charged to them."""

    spot: Spot
    task: str
    cause: str
    stalls: Stalls = field(default_factory=Stalls)


class Findings:
    """Findings of one loop from `started_ns` on (perf_counter_ns)."""

    def __init__(self, started_ns: int, limit_s: float, period_s: float) -> None:
        self.started_ns = started_ns
        self.limit_s = limit_s
        self.period_s = period_s
        self._period_us = int(period_s * 1e6)
        self._lags: dict[int, int] = {}
        self._fine = [0] * (FINE_NS >> FINE_SHIFT)
        self.beats = 0
        self._max_lag_ns = 0
        self._series = [0]
        self._bucket_max_ns = -1
        self._bucket_end_ns = started_ns
        self._width_ns = 1_000_000_000
        self._recent: deque[tuple[int, int]] = deque(maxlen=8192)
        self._causes = {cause: Stalls() for cause in CAUSES}
        self._blocked = Stalls()
        self._queue = Stalls()
        self._culprits: dict[tuple[str, int, str, str, str], Culprit] = {}
        self._times: list[dict[str, Any]] = []
        self._unnamed = 0
        self._between = Stalls()

    def anew(self, started_ns: int) -> "Findings":
        """Return empty findings that begin at `started_ns`; `own_share` still knows the late beats before it."""
        fresh = Findings(started_ns, self.limit_s, self.period_s)
        fresh._recent = self._recent
        return fresh

    def lag(self, lag_ns: int, now_ns: int) -> None:
        """Count a beat that came `lag_ns` late (below 0: early), and those that should have come in the meantime."""
        self.beats += 1
        if lag_ns < FINE_NS:
            self._fine[lag_ns >> FINE_SHIFT if lag_ns > 0 else 0] += 1
        else:
            self._late(lag_ns, now_ns, lag_ns // 1000)
        if lag_ns > self._bucket_max_ns or now_ns >= self._bucket_end_ns:
            self._bucket(lag_ns, now_ns)

    def _late(self, lag_ns: int, now_ns: int, lag_us: int) -> None:
        self._recent.append((now_ns - lag_ns, now_ns))
        for step in range(min(lag_us // self._period_us, MAX_MISSED_BEATS) + 1):
            key = lag_key(lag_us - step * self._period_us)
            self._lags[key] = self._lags.get(key, 0) + 1

    def _bucket(self, lag_ns: int, now_ns: int) -> None:
        self._max_lag_ns = max(self._max_lag_ns, lag_ns)
        bucket = (now_ns - self.started_ns) // self._width_ns
        if bucket >= len(self._series):
            bucket = self._grow(bucket)
        self._series[bucket] = self._bucket_max_ns = max(self._series[bucket], lag_ns)
        self._bucket_end_ns = self.started_ns + (bucket + 1) * self._width_ns

    def stall(self, end_ns: int, length_s: float, cause: str, spot: Spot | None, task: str) -> None:
        """Count a stall over the limit, charged to `cause`. One on the GIL is "blocked" only if its holder is named.

        A stall of the loop without a line (`spot`) and without a task lay between two callbacks. Of a stall that began
        before these findings only the rest counts, if that is still over the limit.
        """
        length_s = self._since_start(end_ns, length_s)
        if length_s < self.limit_s:
            return
        self._causes[cause].add(length_s)
        if cause == "loop" or (cause == "gil" and spot is not None):
            self._blocked.add(length_s)
        if len(self._times) < MAX_STALL_TIMES:
            start_s = max(0.0, (end_ns - self.started_ns) / NS - length_s)
            self._times.append({"t": round(start_s, 4), "length": round(length_s, 5), "cause": cause})
        if spot is None:
            self._unnamed += cause in ("loop", "gil")  # a machine that gave no CPU has no line
            if cause == "loop" and not task:
                self._between.add(length_s)
            return
        code = spot.position[0]
        key = (code.co_filename, spot.line, code.co_qualname, task, cause)
        if key not in self._culprits and len(self._culprits) >= MAX_CULPRITS:
            key, task = ("", 0, "", OTHERS, cause), OTHERS
        self._culprits.setdefault(key, Culprit(spot, task, cause)).stalls.add(length_s)

    def queue(self, end_ns: int, length_s: float) -> None:
        """Count a loop that was late over the limit because of many short callbacks: lag, not a stall."""
        length_s = self._since_start(end_ns, length_s)
        if length_s >= self.limit_s:
            self._queue.add(length_s)

    def _since_start(self, end_ns: int, length_s: float) -> float:
        return min(length_s, (end_ns - self.started_ns) / NS)

    def own_share(self, start_ns: int, end_ns: int) -> int:
        """Return how much of an operation's time (ns) the loop itself took by being late at its start or its end.

        A loop that was late in between, while the answer was on its way, delayed nothing. Reaches 8192 late beats back.
        """
        late = []
        for due, came in reversed(self._recent):
            if came <= start_ns:
                break
            if due < end_ns:
                late.append((max(due, start_ns), min(came, end_ns)))
        edge_start, edge_end = start_ns, end_ns
        for due, came in late:
            if came >= edge_end - TOUCHING_NS:
                edge_end = due
        for due, came in reversed(late):
            if due <= edge_start + TOUCHING_NS:
                edge_start = came
        return sum(came - due for due, came in late if due >= edge_end or came <= edge_start)

    def report(self, name: str, now_ns: int) -> dict[str, Any]:
        """The findings as one element of `event_loops` in the results file; seconds."""
        watched_s = max(0.0, (now_ns - self.started_ns) / NS)
        blocked = self._blocked
        culprits = sorted(self._culprits.values(), key=lambda culprit: culprit.stalls.total_s, reverse=True)
        width_ns, series = self._width_ns, self._series  # the loop's thread may replace both meanwhile
        return {
            "name": name,
            "witness": "inside",
            "watched_s": watched_s,
            "period_s": self.period_s,
            "limit_s": self.limit_s,
            "max_stall": blocked.longest_s,
            "stalls": blocked.count,
            "blocked_s": blocked.total_s,
            "blocked": bool(blocked.count) if self.beats else None,
            "lag": {"p50": self._quantile(0.5), "p99": self._quantile(0.99), "max": self._max_lag_ns / NS},
            "by_cause": {
                cause: {"stalls": stalls.count, "blocked_s": stalls.total_s, "max_stall": stalls.longest_s}
                for cause, stalls in self._causes.items()
            },
            "culprits": [_culprit_json(culprit) for culprit in culprits],
            "series": [{"t": index * width_ns / NS, "max_lag": lag / NS} for index, lag in enumerate(series)],
            "stall_times": list(self._times),
            "note": self._note(),
        }

    def _note(self) -> str:
        notes = []
        if not self.beats:
            notes.append("The heartbeat never ran: nothing is known of this loop.")
        if (queue := self._queue).count:
            notes.append(
                "Many short callbacks in a row kept the loop busy beyond the limit,"
                f" {counted(queue.count, 'time')} (longest {queue.longest_s * 1e3:.1f} ms): load, not a blocking call."
            )
        if (between := self._between).count:
            notes.append(
                f"The loop was blocked between two callbacks {counted(between.count, 'time')}"
                f" (longest {between.longest_s * 1e3:.1f} ms), where no Python line can be named: this happens when a"
                " large object that nobody keeps is freed."
            )
        if self._unnamed:
            have = "has" if self._unnamed == 1 else "have"
            notes.append(f"{counted(self._unnamed, 'stall')} {have} no culprit in the table.")
        return " ".join(notes)

    def _grow(self, bucket: int) -> int:
        while bucket >= MAX_BUCKETS:
            pairs = [self._series[i : i + 2] for i in range(0, len(self._series), 2)]
            self._series = [max(pair) for pair in pairs]
            self._width_ns *= 2
            bucket //= 2
        self._series.extend([0] * (bucket + 1 - len(self._series)))
        return bucket

    def _quantile(self, q: float) -> float | None:
        step = (1 << FINE_SHIFT) / 1000
        lags = [((index + 0.5) * step, count) for index, count in enumerate(self._fine) if count]
        # Not of `items()`: for its pairs CPython 3.11 may collect, and then the loop's thread may go on.
        lags = sorted(lags + [(middle_us(key), self._lags[key]) for key in list(self._lags)])
        wanted = q * sum(count for _, count in lags)
        for lag_us, count in lags:
            wanted -= count
            if wanted <= 0:
                return min(lag_us / 1e6, self._max_lag_ns / NS)
        return None


def counted(number: int, thing: str) -> str:
    """Write a number of things: `1 stall`, `2 stalls`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def lag_key(lag_us: int) -> int:
    """Log-linear bucket: 32 per power of two above 64 us, one per microsecond below; ordered like the values."""
    if lag_us < 64:
        return max(lag_us, 0)
    shift = lag_us.bit_length() - 6
    return (shift << 6) + (lag_us >> shift)


def middle_us(key: int) -> float:
    """Return the middle of the bucket `key` of `lag_key`."""
    shift = key >> 6
    return float(key) if shift == 0 else ((key & 63) + 0.5) * (1 << shift)


def _culprit_json(culprit: Culprit) -> dict[str, Any]:
    place = described(culprit.spot)
    return {
        "file": place.file,
        "line": place.line,
        "function": place.function,
        "call": place.call,
        "task": culprit.task,
        "cause": culprit.cause,
        "count": culprit.stalls.count,
        "total_s": culprit.stalls.total_s,
        "longest_s": culprit.stalls.longest_s,
        "excerpt": [[number, text] for number, text in excerpt(place)],
    }
