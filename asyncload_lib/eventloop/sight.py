"""What the threads of a process do at one moment, as the watchdog's thread sees it, and which of them kept the GIL."""

import operator
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import compress, starmap
from types import FrameType

from .baseline import Baseline
from .clocks import ASLEEP, ThreadMeter, state_of
from .frame_safety import Home, uncollected
from .places import Position
from .stacks import callback_frames, positions, step_frame
from .stall import Holder, Pulse

__all__ = ["Sight", "View"]

ENDED_REFERENCES = 3
"""References to a frame in a list that `compress` goes through, if nobody else has one: it does not run any more."""
_IS_UNSHARED = partial(operator.ge, ENDED_REFERENCES)
"""Of a number of references. It makes no object that the collector would count, and so start with."""


@dataclass(slots=True)
class View:
    """What the loop's thread and all others do.

    frames     of the callback that runs, outermost first; `stack` is where they stand
    callback   the frame that stands for the callback; None where there is none
    task       name of the task that runs; None where there is none
    others     the innermost frame of each other thread
    ran_ns     for how long the loop's thread has run since the look began
    """

    state: str | None
    run_delay_ns: int
    frames: list[FrameType]
    stack: tuple[Position, ...]
    callback: FrameType | None
    task: str | None
    others: dict[int, FrameType]
    ran_ns: int


class Sight:
    """Looks at all threads, of which one runs the loop: the one that `meter` measures and `pulse` is of.

    `task_name` gives the name of the task that runs there; `home` is the greenlet in which the loop runs.
    """

    def __init__(
        self, meter: ThreadMeter, pulse: Pulse, task_name: Callable[[], str | None], home: Home | None
    ) -> None:
        self._meter = meter
        self._pulse = pulse
        self._task_name = task_name
        self._home = home
        self.own_ident = 0
        """Of the thread that looks, which it does not see; 0 until it runs."""

    def view(self, loop_ns: int) -> View:
        """Return what all threads do; `loop_ns`: CPU time of the loop's when the look began."""
        state, run_delay_ns = self._meter.state(), self._meter.run_delay_ns()  # before the frames
        with uncollected:
            others = self._frames()
            frames = self._callback_frames(others)
            stack, callback = positions(frames), step_frame(frames)
            task, ran_ns = self._task_name() if stack else None, self._meter.cpu_ns() - loop_ns
        return View(state, run_delay_ns, frames, stack, callback, task, others, ran_ns)

    def holder(self, baseline: Baseline, others: dict[int, FrameType] | None = None) -> Holder | None:
        """Return the other thread that used most CPU time since the baseline; None if none used any.

        `others`: of the view at hand, else it looks anew; then for any thread.
        """
        with uncollected:
            if others is None:
                others = self._frames()
                self.hand_back(self._callback_frames(others))
            return _busiest(baseline, others)

    def hand_back(self, frames: list[FrameType]) -> None:
        """Let go of frames of the loop's thread; those whose function has ended meanwhile are left to that thread.

        The last one to let go of such a frame frees its locals: that may take as long as a stall, or run finalizers.
        """
        # CPython can give up the GIL only at the end of a call. So the loop's thread cannot end a frame's function
        # before it is decided who lets go of the frame.
        frames[:] = compress(frames, map(_IS_UNSHARED, map(sys.getrefcount, frames)))
        if frames:
            self._pulse.discard += frames
            frames[:] = ()

    def _frames(self) -> dict[int, FrameType]:
        # Without this thread's own frame: it refers to this dict, and the cycle would keep all until a collection.
        frames = sys._current_frames()
        frames.pop(self.own_ident, None)
        # A call that gevent has patched suspends the greenlet of the loop: the thread then shows a hub, not the caller.
        suspended = self._home.suspended() if self._home is not None and "gevent" in sys.modules else None
        if suspended is not None:
            frames[self._meter.ident] = suspended
        return frames

    def _callback_frames(self, frames: dict[int, FrameType]) -> list[FrameType]:
        """Take the frames of the callback that runs out of those of all threads, outermost first.

        A greenlet's frames end with its own first one. Where a library has put it between two functions of a callback
        (SQLAlchemy, `greenlet_spawn`), those of the greenlet that waits for it go before them.
        """
        inside = callback_frames(frames.pop(self._meter.ident, None), self._pulse.base)
        is_whole = not inside or inside[0].f_back is not None or self._pulse.base is None
        outside = None if is_whole or self._home is None else self._home.suspended()
        return inside if outside is None else callback_frames(outside, self._pulse.base) + inside


def _busiest(baseline: Baseline, frames: dict[int, FrameType]) -> Holder | None:
    """Of the threads with these frames, return the one that used most CPU time since the baseline."""
    stood = {ident: frame.f_lasti for ident, frame in frames.items()}
    used = baseline.used_by_others()
    used = {thread: cpu for thread, cpu in used.items() if thread[0] in frames}
    if not used:
        return None
    ident, clock = max(used, key=lambda thread: used[thread])
    frame, sleeps = frames[ident], state_of(clock) == ASLEEP
    stack = positions(callback_frames(frame, None))
    # One C call: the frames of all threads are let go of before any of them goes on.
    newest = next(map(dict.get, starmap(sys._current_frames, [()]), [ident]))
    if frame.f_lasti != stood[ident] or newest is not frame:
        # It has run since its frame was read: until then it was waiting for the GIL, at that instruction.
        stack, sleeps = (*stack[:-1], (frame.f_code, stood[ident])), False
    return Holder(_thread_name(ident, stack), stack, used[ident, clock], sleeps)


def _thread_name(ident: int, stack: tuple[Position, ...]) -> str:
    # threading.enumerate() takes a lock that gevent may have replaced; this must be callable from a native thread.
    thread = getattr(threading, "_active", {}).get(ident)
    if thread is not None:
        return str(thread.name)
    return f"thread in {stack[0][0].co_qualname}" if stack else f"thread {ident}"
