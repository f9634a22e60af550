"""One operation of a user, from its intended start to its outcome: ok, failed or abandoned."""

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from locust.exception import (
    CatchResponseError,
    InterruptTaskSet,
    RescheduleTask,
    RescheduleTaskImmediately,
    StopTest,
    StopUser,
)

from asyncload_lib.users import events

if TYPE_CHECKING:
    from asyncload_lib.users.base import AsyncUser

__all__ = ["CONTROL_FLOW", "CutOffError", "Measurement", "tally"]

CONTROL_FLOW = (StopUser, StopTest, RescheduleTask, RescheduleTaskImmediately, InterruptTaskSet)
"""What a task raises to steer its user; it says nothing about the operation around it."""


class CutOffError(Exception):
    """The operation was cancelled by the task it belongs to: by a timeout of its own, or by a sibling that failed."""


class Tally:
    """How many operations were begun in this process, and how many of them are over; written and read on both threads.

    CPython hands the interpreter over at calls and at backward jumps only, so that `started += 1` stays in one piece.
    """

    __slots__ = ("ended", "started")

    def __init__(self) -> None:
        self.started = self.ended = 0


tally = Tally()


class Measurement:
    """`async with user.measure("REDIS", "get") as operation:`; fires Locust's `request` event when the block is left.

    An `Exception` inside is recorded as the failure and not raised again, as with Locust's own `measure`. A block that
    is cancelled because its user is stopped counts as abandoned, one that its own task cancels as failed
    (`CutOffError`): what took too long must not vanish from the error rate. `intended_ns` (`perf_counter_ns`) is the
    moment the operation should have begun: latency counts from there, and the actual start is kept beside it as
    `service_time` (of one that failed: `failed_service_time`) and `send_delay`.
    """

    __slots__ = (
        "_cut_offs",
        "_user",
        "context",
        "exception",
        "intended_ns",
        "metrics",
        "name",
        "request_type",
        "response",
        "response_length",
        "start_time",
        "started_ns",
        "url",
    )

    def __init__(
        self,
        user: "AsyncUser",
        request_type: str,
        name: str,
        context: dict[str, Any] | None = None,
        intended_ns: int | None = None,
    ) -> None:
        self._user = user
        self.request_type = request_type
        self.name = name
        self.context = context
        self.intended_ns = intended_ns
        self.response_length = 0
        self.exception: BaseException | None = None
        self.metrics: dict[str, list[float]] | None = None
        self.response: object = None
        self.url: str | None = None

    def begin(self) -> None:
        """Start the clock. Call it once, and then one of `finish`, `cut_off` and `abandon`."""
        context = self._user.context()  # before anything is counted: it is the user's code and may fail
        self.context = {**context, **self.context} if self.context else context
        self._cut_offs = self._user.cut_offs
        tally.started += 1
        self.start_time = time.time()
        self.started_ns = time.perf_counter_ns()

    def failure(self, exception: BaseException | str) -> None:
        """Mark the operation as failed for this reason."""
        self.exception = CatchResponseError(exception) if isinstance(exception, str) else exception

    def metric(self, metric: str, values_us: list[float]) -> None:
        """Keep figures about this operation (microseconds) in histograms of their own.

        They are reported with its outcome: those of an abandoned operation, or given after the outcome, are lost.
        """
        if self.metrics is None:
            self.metrics = {}
        self.metrics.setdefault(metric, []).extend(values_us)

    def finish(self, ended_ns: int) -> None:
        """Report the outcome."""
        tally.ended += 1
        user = self._user
        begun_ns = self.started_ns
        if self.intended_ns is not None:
            delay_ns = begun_ns - self.intended_ns
            own_us = (ended_ns - begun_ns) / 1e3
            if self.exception is None:
                self.metric("service_time", [own_us])
            else:  # kept apart, as latencies are: a refusal is quick, and would make the successful ones look quick
                self.metric("failed_service_time", [own_us])
            self.metric("send_delay", [max(delay_ns, 0) / 1e3])
            begun_ns = self.intended_ns
        metrics, self.metrics = self.metrics, None
        response, self.response = self.response, None  # it refers to this: the cycle would keep it with its body
        user.loop_thread.to_hub(
            user.fire_request,
            {
                "request_type": self.request_type,
                "name": self.name,
                "response_time": (ended_ns - begun_ns) / 1e6,
                "response_length": self.response_length,
                "exception": self.exception,
                "context": self.context,
                "start_time": self.start_time,
                "url": self.url,
                "response": response,
                "ended_ns": ended_ns,
            },
            metrics,
        )

    def cut_off(self, ended_ns: int) -> None:
        """Report that the operation was cancelled: abandoned if a stop of its user did it, else failed."""
        if self._user.cut_offs > self._cut_offs:
            self.abandon()
        else:
            self.exception = CutOffError("cancelled by its own task, for example by asyncio.timeout")
            self.finish(ended_ns)

    def abandon(self) -> None:
        """Report that the operation was cut off in flight."""
        tally.ended += 1
        self.response = None
        begun_ns = self.started_ns if self.intended_ns is None else self.intended_ns
        age_us = (time.perf_counter_ns() - begun_ns) / 1e3
        user = self._user
        user.loop_thread.to_hub(_fire_abandoned, user.environment, self.request_type, self.name, age_us)

    async def __aenter__(self) -> Self:
        self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        ended_ns = time.perf_counter_ns()
        if error is None:
            self.finish(ended_ns)
            return False
        if isinstance(error, asyncio.CancelledError):
            self.cut_off(ended_ns)
            return False
        if not isinstance(error, Exception):
            self.abandon()
            return False
        if isinstance(error, CONTROL_FLOW):
            self.finish(ended_ns)
            return False
        self.exception = error
        self.finish(ended_ns)
        return True


def _fire_abandoned(environment: Any, request_type: str, name: str, age_us: float) -> None:
    events.request_abandoned.fire(environment=environment, request_type=request_type, name=name, age_us=age_us)
