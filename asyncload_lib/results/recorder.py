"""Every request of one process, counted where it happens: buffered as it comes, binned in batches."""

import math
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

from asyncload_lib.results.arrays import np
from asyncload_lib.results.phase import Endpoint, PhaseResult, Tally
from asyncload_lib.results.snapshots import Snapshots
from asyncload_lib.results.text import clean, error_text

__all__ = ["Recorder"]

_FOLD_AT = 4096  # latencies at which a buffer is emptied at once; those of good requests are emptied every second
_NS = 1_000_000_000
_US_PER_MS = 1000.0

Key = tuple[str, str]


class Recorder:
    """Collects the requests of a run in one process, phase by phase; all calls come from one thread.

    A batch of answers is `tick(moment of the newest)`, then one `add` each: the moment tells the second they belong to.
    Names and error texts beyond MOST_NAMES per phase are counted under "other"; no count is lost. A metric of requests
    beyond it is still that metric, of "other" requests.
    """

    def __init__(self, run_id: str, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.run_id = run_id
        self._clock_ns = clock_ns
        self._snapshots = Snapshots(run_id)
        self._phases: dict[str, PhaseResult] = {}
        self._starts_ns: dict[str, int] = {}
        self._phase: PhaseResult | None = None
        self._ended = False
        self._stopping_ns = sys.maxsize  # when nothing more was begun
        self._moment_ns = 0  # of the newest answer; none yet
        self._next_second_ns = 0
        self._ok: dict[Key, array[float]] = {}
        self._failed: dict[Key, array[float]] = {}
        self._metrics: dict[Key, array[float]] = {}

    # Phases

    def begin(self, phase: str, users: int = 0, t0_ns: int | None = None) -> None:
        """Start phase `phase` or go on with it; `t0_ns` (perf_counter_ns) is its intended start, else now is."""
        self.fold()
        self._phase = self._phases.setdefault(phase, PhaseResult(phase))
        self._phase.users = max(self._phase.users, users)
        self._starts_ns.setdefault(phase, self._clock_ns() if t0_ns is None else t0_ns)
        self._snapshots.reopen(phase)
        self._ended = False
        self._stopping_ns = sys.maxsize
        self._moment_ns, self._next_second_ns = 0, 0
        self._ok, self._failed, self._metrics = {}, {}, {}

    def go_on(self, phase: str, users: int) -> None:
        """Start phase `phase` in the middle of the load: what is in flight was started in it, for it will end in it."""
        self.fold()
        before = self._current()
        in_flight = before.started - before.ok_count - before.failed_count - before.abandoned_count
        self.begin(phase, users)
        before.started -= in_flight
        self.add_started(in_flight)

    def stopping(self) -> None:
        """Say that the users are stopped now: what is in flight may end, and nothing more is begun."""
        self._stopping_ns = min(self._stopping_ns, self._clock_ns())

    def end(self) -> None:
        """Stop the phase's wall time at its last answer; what still comes before the next `begin` is counted in it."""
        self.fold()
        self._ended = True

    def tick(self, now_ns: int | None = None) -> None:
        """Say when (perf_counter_ns) the answers that are added next came; call it before each batch or answer."""
        now_ns = self._clock_ns() if now_ns is None else now_ns
        if now_ns >= self._next_second_ns:
            self.fold()
            start_ns = self._start_ns()
            self._next_second_ns = now_ns + _NS - (now_ns - start_ns) % _NS
        elif now_ns < self._moment_ns:
            return  # the phase ends with the newest answer, not with the one that is told last
        self._moment_ns = now_ns

    # Samples

    def on_request(
        self,
        request_type: str,
        name: str,
        response_time: float | None,
        response_length: object = 0,
        exception: object = None,
        context: object = None,
        start_time: object = None,
        url: object = None,
        response: object = None,
        ended_ns: int | None = None,
        **_: object,
    ) -> None:
        """Take a Locust `request` event as it is: `tick` and `add` in one, for they are called for every request.

        Without `ended_ns` the request is of a user class of somebody else: it ends now, and nobody told of its start.
        """
        if ended_ns is None:
            ended_ns = self._clock_ns()
            self.add_started()
        if self._moment_ns <= ended_ns < self._next_second_ns:
            self._moment_ns = ended_ns
        else:
            self.tick(ended_ns)
        if not exception:
            try:  # no look at the buffer's size: `tick` empties it every second
                self._ok[request_type, name].append(response_time)  # type: ignore[arg-type]  # as in `add`
            except (KeyError, TypeError, OverflowError):
                self.add(request_type, name, response_time, None)
        else:
            self.add(request_type, name, response_time, exception)

    def add(
        self,
        request_type: str,
        name: str,
        response_time_ms: float | None,
        exception: object,
    ) -> None:
        """Count a request, ok if `exception` is empty, as in Locust; a latency beyond 0 to 1 h counts as invalid."""
        try:
            buffer = (self._failed if exception else self._ok)[request_type, name]
        except (KeyError, TypeError):
            request_type, name = self._admit(clean(request_type), clean(name))
            buffer = (self._failed if exception else self._ok)[request_type, name]
        try:
            buffer.append(response_time_ms)  # type: ignore[arg-type]  # what is no number raises, and is counted below
        except (TypeError, OverflowError):
            buffer.append(math.nan)
        if exception:
            self._count_error(request_type, name, exception)
        if len(buffer) >= _FOLD_AT:
            self.fold()

    def add_metric(self, name: str, value_us: float, request_name: str = "") -> None:
        """Count a metric of a request, in us: it has its own histogram and is no request."""
        key = (name, request_name)
        try:
            buffer = self._metrics[key]
        except (KeyError, TypeError):
            key = self._current().metric_key(clean(name), clean(request_name))
            self._current().metrics.setdefault(key, Tally())
            buffer = self._metrics.setdefault(key, array("d"))
        try:
            buffer.append(value_us)
        except (TypeError, OverflowError):
            buffer.append(math.nan)
        if len(buffer) >= _FOLD_AT:
            self.fold()

    def add_started(self, n: int = 1) -> None:
        """Count operations that were started."""
        self._current().started += n

    def add_abandoned(self, request_type: str, name: str, age_us: float) -> None:
        """Count an operation that was cut off in flight just now, `age_us` after its start.

        Its phase lasts at least until then, or until its users were stopped: whoever waited for this operation would
        have begun others meanwhile, and a target that hangs is no faster for it.
        """
        phase, now_ns = self._current(), self._clock_ns()
        key = phase.abandoned_key(clean(request_type), clean(name))
        phase.abandoned.setdefault(key, Tally()).record(np.array([age_us]))
        phase.tail_ns = max(phase.tail_ns, now_ns - self._stopping_ns)
        if not self._ended:
            phase.wall_ns = max(phase.wall_ns, min(now_ns, self._stopping_ns) - self._start_ns())

    # Results

    def results(self) -> dict[str, PhaseResult]:
        """Return the phases so far, in the order of their begin; live objects that later samples change."""
        self.fold()
        return dict(self._phases)

    def snapshot(self) -> dict[str, Any]:
        """Return everything so far in plain msgpack types; a later snapshot replaces an earlier one."""
        (whole,) = self.snapshot_parts(sys.maxsize)
        return whole

    def snapshot_parts(self, max_bytes: int = 60_000, *, changes_only: bool = False) -> list[dict[str, Any]]:
        """Return a snapshot in parts of at most `max_bytes` as msgpack (a single entry is never cut).

        Each part is cumulative for what it carries: it may be lost, doubled or overtaken by a later snapshot's.
        `changes_only`: without phases and intervals that can no longer change and were in a snapshot before.
        """
        self.fold()
        now_ns = self._clock_ns()
        ages_ns = {name: now_ns - start_ns for name, start_ns in self._starts_ns.items()}
        return list(self._snapshots.parts(self._phases, ages_ns, self._phase, max_bytes, changes_only=changes_only))

    def fold(self) -> None:
        """Bin what is buffered; `tick` (every second), `snapshot`, `results`, `end` and `add` do it by themselves."""
        phase = self._phase
        if phase is None:
            return
        now_ns = self._moment_ns or self._clock_ns()
        t_s = max(0, now_ns - self._start_ns()) / _NS
        answers = 0
        for failed, buffers in ((False, self._ok), (True, self._failed)):
            for key, buffer in buffers.items():
                if requests := len(buffer):
                    endpoint = phase.endpoints[key]
                    valid = _fold(buffer, _US_PER_MS, endpoint.failed if failed else endpoint.ok)
                    phase.series.record(t_s, requests, valid, failed=failed)
                    answers += requests
        for key, buffer in self._metrics.items():
            if buffer:
                _fold(buffer, 1.0, phase.metrics[key])
        if answers and not self._ended:
            phase.wall_ns = max(phase.wall_ns, now_ns - self._start_ns())

    def _current(self) -> PhaseResult:
        if self._phase is None:
            self.begin("run")
        assert self._phase is not None
        return self._phase

    def _start_ns(self) -> int:
        return self._starts_ns[self._current().name]

    def _admit(self, kind: str, name: str) -> Key:
        """Open buffers for an endpoint, or for "other" beyond the cap, and return the key they have."""
        kind, name = self._current().endpoint_key(kind, name)
        if (kind, name) not in self._ok:
            self._current().endpoints.setdefault((kind, name), Endpoint())
            self._ok[kind, name] = array("d")
            self._failed[kind, name] = array("d")
        return kind, name

    def _count_error(self, request_type: str, name: str, exception: object) -> None:
        errors = self._current().errors
        key = self._current().error_key(request_type, name, error_text(exception))
        errors[key] = errors.get(key, 0) + 1


def _fold(buffer: "array[float]", us_per_unit: float, tally: Tally) -> Any:
    """Empty `buffer` into `tally` and return the valid latencies in us."""
    with np.errstate(over="ignore"):  # 1e308 ms is infinite in us, and invalid either way
        values_us = np.frombuffer(buffer) * us_per_unit
    del buffer[:]
    return tally.record(values_us)
