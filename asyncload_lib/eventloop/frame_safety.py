"""What makes it safe for one thread to look at another's frames."""

import gc
import os
import sys
from collections.abc import Callable
from itertools import starmap
from operator import attrgetter
from types import FrameType
from typing import Any
from weakref import ref

from .native import native

__all__ = ["Home", "uncollected"]


class _Uncollected:
    """While it is held, no garbage collection runs: `with uncollected: ...` around every look at other threads' frames.

    `sys._current_frames()` and `f_back` make frame objects while CPython holds a lock, or a pointer into a stack that
    is not its own. A collection that starts there calls back into Python (`gc.callbacks`), which may give up the GIL:
    the next such look then waits for ever, or the frame is gone when its maker goes on. Seen on CPython 3.11.7, as a
    deadlock of the whole process and as a segmentation fault.

    Several threads may be inside at once. If one had to wait for another it would give up the GIL, and what it looks at
    would go on.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._was_enabled = False
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = native("_thread", "allocate_lock")()
        if self._was_enabled:  # a thread of the parent was inside, and is not in the child
            gc.enable()
        self._inside, self._was_enabled = 0, False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._was_enabled:
                self._was_enabled = False
                gc.enable()


uncollected = _Uncollected()


class _Kept:
    """Holds a greenlet for its own thread, so that others need only a weak reference to the holder."""

    __slots__ = ("__weakref__", "greenlet")

    def __init__(self, greenlet: Any) -> None:
        self.greenlet = greenlet


class Home:
    """The greenlet in which it is made, for another thread to look at; none in a process without greenlets.

    Only the greenlet's own thread keeps it. When a thread has ended, the library greenlet frees its main greenlet even
    if somebody still refers to it, where the collector cannot tell who does (`gc.freeze()`). To touch it then is a
    segmentation fault (seen with greenlet 3.5.6).
    """

    def __init__(self) -> None:
        self._local: Any = native("_thread", "_local")()
        self._kept: Callable[[], _Kept | None] = _nobody
        greenlet = sys.modules.get("greenlet")
        if greenlet is not None:
            self._local.kept = kept = _Kept(greenlet.getcurrent())
            self._kept = ref(kept)

    def suspended(self) -> FrameType | None:
        """Return the greenlet's innermost frame, if another one runs in its thread. Call it with `uncollected` held.

        It is all one C call, because between two bytecodes the thread could get the GIL, and end.
        """
        return next(map(_FRAME, filter(None, starmap(self._kept, [()]))), None)


_FRAME = attrgetter("greenlet.gr_frame")


def _nobody() -> None:
    """Stand for the reference to a greenlet where there is none."""
