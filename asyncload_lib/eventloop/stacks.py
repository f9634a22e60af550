"""From a thread's frames to the line that blocked it.

A stack is read from the loop's side inwards: everything inside the loop's own machinery belongs to one callback or task
step. Of those frames the innermost one of the user's own code is the culprit: it made the call that did not return.
"""

import asyncio.base_events
import asyncio.events
import dis
import functools
import gc
import linecache
import os
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, starmap
from operator import attrgetter
from types import CodeType, FrameType
from typing import Any
from weakref import ref

from .native import native

__all__ = [
    "AFTERWARDS",
    "Home",
    "Place",
    "Position",
    "Spot",
    "callback_frames",
    "culprit_spot",
    "described",
    "excerpt",
    "has_run",
    "innermost_own",
    "is_bare",
    "loop_base",
    "positions",
    "step_frame",
    "uncollected",
]

Position = tuple[CodeType, int]
"""Code object and `f_lasti`: cheap to take while the stall lasts, resolved to a line afterwards."""

USER, LIBRARY, STDLIB = 2, 1, 0
MAX_CALL_CHARS = 120

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_MONITOR = _HERE + "lag.py"
_STDLIB = tuple(
    {spelt(sysconfig.get_path(key)) + os.sep for key in ("stdlib", "platstdlib") for spelt in (str, os.path.realpath)}
)
_RUN_ONCE: CodeType = asyncio.base_events.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]
_ASYNCIO = os.path.dirname(asyncio.base_events.__file__) + os.sep
_HANDLE_RUN: CodeType = asyncio.events.Handle._run.__code__
_RESUME = dis.opmap["RESUME"]
_AWAITED = 2
"""RESUME with this argument or a higher one stands behind an `await`."""
_JUMPS = ("JUMP_FORWARD", "JUMP_BACKWARD_NO_INTERRUPT", "SEND")
_TAKES_NO_TIME = (*_JUMPS, "COPY", "END_SEND", "KW_NAMES", "LOAD_", "NOP", "POP_TOP", "PRECALL", "PUSH_NULL", "SWAP")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a stall is charged to. Its source is read only for a report, because reading gives the GIL away.

    `inner`: the innermost frame, to which the call led. `collection`: the generation of a garbage collection that ran
    there. `is_afterwards`: what kept the GIL was over when the thread was looked at.
    """

    position: Position
    inner: Position | None = None
    collection: int | None = None
    is_afterwards: bool = False

    @property
    def line(self) -> int:
        """Its line number."""
        return _span(*self.position)[0]


@dataclass(frozen=True, slots=True)
class Place:
    """One line of source: path, line number, qualified name of the function, and the call made there."""

    file: str
    line: int
    function: str
    call: str


def callback_frames(innermost: FrameType | None, base: CodeType | None) -> list[FrameType]:
    """The frames of the running callback, outermost first; empty when the loop runs none but the heartbeat.

    `base`: code of the frame that runs the loop, see `loop_base`. Without one (a hub of greenlets) all frames count.
    """
    frames: list[FrameType] = []
    frame = innermost
    while frame is not None and frame.f_code is not base:
        if frame.f_code is _HANDLE_RUN:
            frames += [] if frames else [frame]  # the callback has no frame: it is a function in C
            break
        if frame.f_code is _RUN_ONCE:
            return _interrupting(frames)
        frames.append(frame)
        frame = frame.f_back
    if frames and frames[-1].f_code.co_filename == _MONITOR:
        return _interrupting(frames)
    return frames[::-1]


def _interrupting(frames: list[FrameType]) -> list[FrameType]:
    """Return the frames of what interrupts the loop itself or the heartbeat, if code of the user's is in it; else [].

    It may be a finalizer, a signal handler, or a handler of the loop's own log.
    """
    return frames[::-1] if any(rank(frame.f_code.co_filename) == USER for frame in frames) else []


def step_frame(frames: list[FrameType]) -> FrameType | None:
    """Return the frame that stands for one callback; for a task, whose own frame lives on, that of this one step.

    `frames`: of `callback_frames`. Where the loop has no frame for a step (uvloop), it is the outermost of these.
    """
    if not frames:
        return None
    step = frames[0].f_back
    return step if step is not None and step.f_code is _HANDLE_RUN else frames[0]


def loop_base(frame: FrameType | None, outermost: FrameType | None = None) -> CodeType | None:
    """Return the code of the frame that runs the loop, found from inside a callback.

    `frame`: of the callback, or of what it called; `outermost`: of the running task's coroutine, if there is one.
    """
    inside, walk = frame, frame
    while walk is not None and walk.f_code is not _HANDLE_RUN:
        if walk is outermost:
            inside = walk.f_back
        walk = walk.f_back
    base = inside if walk is None else walk
    while base is not None and base.f_code in (_HANDLE_RUN, _RUN_ONCE):
        base = base.f_back
    return base.f_code if base is not None else None


def positions(frames: list[FrameType]) -> tuple[Position, ...]:
    """Where each frame stands now."""
    return tuple((frame.f_code, frame.f_lasti) for frame in frames)


def has_run(stack: tuple[Position, ...]) -> bool:
    """Whether a callback that gave the GIL up here has done anything yet that can have taken time.

    CPython gives the GIL up at the first instruction of a function, at the end of a call, and when a loop goes round.
    Where a function is about to begin, what took the time came before it: it was in the function that calls it, unless
    that one has itself only just come out of an `await`, where the GIL is not given up. The same holds for the first
    call that asyncio itself makes there (`h.cancel()` at the end of a sleep).
    """
    code, lasti = stack[-1]
    if lasti >= 0 and code.co_code[lasti] == _RESUME:
        return len(stack) > 1 and not _has_just_gone_on(*stack[-2])
    return not (code.co_filename.startswith(_ASYNCIO) and _has_just_gone_on(code, lasti))


def _has_just_gone_on(code: CodeType, lasti: int) -> bool:
    return any(lasti in call for call in _first_calls(code))


@functools.lru_cache(maxsize=256)
def _first_calls(code: CodeType) -> tuple[range, ...]:
    """Return the offsets of the calls that follow an `await` with nothing in between that can take time."""
    steps = list(dis.get_instructions(code))
    numbers = {step.offset: number for number, step in enumerate(steps)}
    calls = []
    for number, step in enumerate(steps):
        if step.opcode != _RESUME or (step.arg or 0) & 3 < _AWAITED:
            continue
        at = number + 1
        while at < len(steps) - 1 and steps[at].opname.startswith(_TAKES_NO_TIME):
            at = numbers[steps[at].argval] if steps[at].opname in _JUMPS else at + 1
        if at < len(steps) - 1 and steps[at].opname.startswith("CALL"):
            calls.append(range(steps[at].offset, steps[at + 1].offset))
    return tuple(calls)


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


@functools.lru_cache(maxsize=4096)
def rank(filename: str) -> int:
    """USER for the user's own file, LIBRARY for an installed package, STDLIB for Python itself and this package.

    Judged by the name alone: to ask the file system would give the GIL away.
    """
    if filename.startswith(("<frozen", _HERE)):
        return STDLIB
    if "site-packages" in filename or "dist-packages" in filename:
        return LIBRARY
    return STDLIB if filename.startswith(_STDLIB) else USER


def is_bare(stack: tuple[Position, ...]) -> bool:
    """Whether nothing but the loop's own call of the callback is in the stack: the callback is in C, or not begun."""
    return stack[0][0] is _HANDLE_RUN


def innermost_own(stack: tuple[Position, ...]) -> int | None:
    """Index of the innermost frame of the best rank; None when only this package's frames are there."""
    best: int | None = None
    for index, (code, _) in enumerate(stack):
        if code.co_filename.startswith(_HERE):
            continue
        if best is None or rank(code.co_filename) >= rank(stack[best][0].co_filename):
            best = index
    return best


def culprit_spot(stack: tuple[Position, ...], index: int | None = None) -> Spot | None:
    """The spot of the culprit in a stack, or of the frame `index`."""
    index = innermost_own(stack) if index is None else index
    if index is None:
        return None
    inner = next((position for position in reversed(stack) if not position[0].co_filename.startswith(_HERE)), None)
    leads_on = inner is not None and inner[0] is not stack[index][0] and rank(inner[0].co_filename) < USER
    return Spot(stack[index], inner if leads_on else None)


AFTERWARDS = "a call before this one"
"""Put before the call of a thread that was looked at only after the call that kept the GIL."""


def described(spot: Spot) -> Place:
    """Say where a spot is, and which call is made there; reads the source file, so not for the watchdog."""
    code = spot.position[0]
    line, call = _line_and_call(*spot.position)
    if spot.inner is not None:
        call = f"{call} -> {_line_and_call(*spot.inner)[1]}"
    if spot.collection is not None and "gc.collect" not in call:
        call = f"garbage collection (generation {spot.collection}) during {call}"
    if spot.is_afterwards:
        call = f"{AFTERWARDS}: {call}"
    return Place(_shown(code.co_filename), line, code.co_qualname, call)


def excerpt(place: Place) -> list[tuple[int, str]]:
    """Three lines of source around the place, fewer at a file's edge or when the source cannot be read."""
    path = os.path.join(_working_directory(), place.file)
    lines = linecache.getlines(path)
    first, last = max(1, place.line - 1), min(len(lines), place.line + 1)
    return [(number, lines[number - 1].rstrip()) for number in range(first, last + 1)]


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted
        return os.sep


def _span(code: CodeType, lasti: int) -> tuple[int, int | None, int | None, int | None]:
    """First line of an instruction; its last line and its columns, where they are known."""
    first, last, start, end = next(islice(code.co_positions(), max(lasti, 0) // 2, None), (None, None, None, None))
    return first or code.co_firstlineno, last, start, end


def _line_and_call(code: CodeType, lasti: int) -> tuple[int, str]:
    """Line number and source text of the instruction; an expression over several lines is folded into one."""
    line, last, start, end = _span(code, lasti)
    source = linecache.getlines(code.co_filename)
    if not source or line > len(source):
        return line, code.co_qualname
    text = source[line - 1].strip()
    if last is not None and start is not None and end is not None and last <= len(source):
        raw = [row.encode() for row in source[line - 1 : last]]
        raw[-1] = raw[-1][:end]
        raw[0] = raw[0][start:]
        piece = " ".join(b"".join(raw).decode(errors="replace").split())
        if "(" in piece:
            text = piece
    return line, text if len(text) <= MAX_CALL_CHARS else text[: MAX_CALL_CHARS - 3] + "..."


def _shown(filename: str) -> str:
    """Path as a person reads it: relative inside the working directory, else as Python has it."""
    here = _working_directory() + os.sep
    return filename[len(here) :] if filename.startswith(here) else filename
