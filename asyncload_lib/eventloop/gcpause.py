"""Pauses of the garbage collector, with the line that set each off."""

import gc
import sys
from collections import deque
from dataclasses import dataclass
from time import perf_counter_ns, thread_time_ns
from typing import Any

from .native import native
from .places import Position
from .stacks import callback_frames, positions

__all__ = ["GcPause", "GcPauses"]

SHORTEST_NS = 1_000_000
"""Shorter collections are not kept."""
OLDEST = 2
"""The generation whose collection goes through all objects."""


@dataclass(frozen=True, slots=True)
class GcPause:
    """One collection of a millisecond or more. `stack` is that of the thread that collected.

    `cpu_ns` of a young generation is its whole time: a busy FastAPI backend collects the youngest a thousand times a
    second, and two readings of the CPU clock for each are a third of a percent of its throughput.
    """

    start_ns: int
    end_ns: int
    cpu_ns: int
    ident: int
    generation: int
    stack: tuple[Position, ...]


class GcPauses:
    """Listens to `gc.callbacks` between `start()` and `stop()`; a short young collection costs two clock readings."""

    def __init__(self) -> None:
        self._started_ns = self._cpu_ns = 0
        self._pauses: deque[GcPause] = deque(maxlen=256)
        self._ident = native("_thread", "get_ident")

    def start(self) -> None:
        """Begin to listen."""
        gc.callbacks.append(self._heard)

    def stop(self) -> None:
        """Stop listening; what was heard stays."""
        if self._heard in gc.callbacks:
            gc.callbacks.remove(self._heard)

    def within(self, start_ns: int, end_ns: int) -> list[GcPause]:
        """Pauses that overlap an interval."""
        return [pause for pause in list(self._pauses) if pause.end_ns > start_ns and pause.start_ns < end_ns]

    def _heard(self, phase: str, info: dict[str, Any]) -> None:
        now = perf_counter_ns()
        if phase == "start":
            self._started_ns = now
            if info["generation"] == OLDEST:
                self._cpu_ns = thread_time_ns()
            return
        if now - self._started_ns >= SHORTEST_NS and self._started_ns:
            generation, stack = info["generation"], positions(callback_frames(sys._getframe().f_back, None))
            cpu = thread_time_ns() - self._cpu_ns if generation == OLDEST else now - self._started_ns
            self._pauses.append(GcPause(self._started_ns, now, cpu, self._ident(), generation, stack))
        self._started_ns = 0  # the next start may be missed: CPython skips who stands behind one that leaves the list
