"""One loop that serves an application: its monitor, its socket for other workers, its requests as signs of life."""

import asyncio
import inspect
import logging
import os
from types import CodeType, FrameType
from typing import Any

from .lag import LoopMonitor
from .siblings import Siblings
from .stacks import callback_frames

__all__ = ["ServedLoop", "begins_here"]

logger = logging.getLogger(__name__)

BEFORE_THE_PROBE: tuple[str, ...] = (
    "uvicorn.",
    "hypercorn.",
    "fastapi.",
    "starlette._exception_handler.",
    "starlette.applications.",
    "starlette.middleware.errors.",
    "starlette.middleware.exceptions.",
    "starlette.routing.",
    f"{__package__}.asgi.",
)
"""Modules whose frames may stand between the loop and the probe, because they do no work before they call it: servers
that begin each request in a task of its own, and what frameworks themselves put around an application."""


class ServedLoop:
    """A loop and what watches it; made on the loop itself.

    `key` as for `Siblings`; `limit_s` and `period_s` as for `LoopMonitor`, until a reset brings others.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, key: str, limit_s: float, period_s: float) -> None:
        self.loop = loop
        self._limits = (limit_s, period_s)
        self.gives_signs = True
        """Whether a request that reaches the probe is a sign of life."""
        self.monitor = LoopMonitor("target", limit_s, period_s)
        self.siblings = Siblings(key, self.own)

    async def start(self) -> None:
        """Begin to watch, and let other workers ask."""
        await self.siblings.open()
        self._watch(*self._limits)

    def stop(self) -> None:
        """End both. On the loop, or once it does not run any more."""
        self.monitor.stop()
        self.siblings.close()

    @property
    def is_over(self) -> bool:
        """Whether the loop is out of use, though perhaps not closed."""
        return not self.loop.is_running()

    def give_no_signs(self) -> None:
        """Take no request for a sign of life any more."""
        self.gives_signs = False
        self.monitor.hear_no_signs()

    async def own(self, command: str) -> dict[str, Any]:
        """Answer "report" or "reset <limit_s> <period_s>" for this loop."""
        if command.startswith("reset"):
            limit_s, period_s = map(float, command.split()[1:])
            self._watch(limit_s, period_s)
            return {"pid": os.getpid(), "reset": True, "limit_s": limit_s, "period_s": period_s}
        return {"pid": os.getpid(), **self.monitor.report()}

    def _watch(self, limit_s: float, period_s: float) -> None:
        """Begin anew under these limits."""
        if (limit_s, period_s) != self._limits:
            self.monitor.stop()
            self._limits = (limit_s, period_s)
            self.monitor = LoopMonitor("target", limit_s, period_s)
            if not self.gives_signs:
                self.monitor.hear_no_signs()
        if self.monitor.running:
            self.monitor.reset()
        else:
            self.monitor.start()


def begins_here(frame: FrameType, base: CodeType | None) -> bool:
    """Whether the callback that has come to `frame` did no work on its way; `base` as for `callback_frames`.

    Any other function on the way may have blocked already, in this very callback.
    """
    frames = callback_frames(frame, base)
    is_task = bool(frames) and bool(frames[0].f_code.co_flags & inspect.CO_COROUTINE)
    return is_task and all(f"{each.f_globals.get('__name__')}.".startswith(BEFORE_THE_PROBE) for each in frames)
