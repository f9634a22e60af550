"""From a thread's frames to the stack of the one callback that it runs.

A stack is read from the loop's side inwards: everything inside the loop's own machinery belongs to one callback or task
step.
"""

import asyncio.base_events
import asyncio.events
import dis
import functools
import os
from types import CodeType, FrameType

from .places import GENERATED, HERE, Position, rank

__all__ = ["callback_frames", "has_run", "is_bare", "loop_base", "positions", "step_frame"]

_MONITOR = HERE + "lag.py"
_RUN_ONCE: CodeType = asyncio.base_events.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]
_ASYNCIO = os.path.dirname(asyncio.base_events.__file__) + os.sep
_HANDLE_RUN: CodeType = asyncio.events.Handle._run.__code__
_RESUME = dis.opmap["RESUME"]
_AWAITED = 2
"""RESUME with this argument or a higher one stands behind an `await`."""
_JUMPS = ("JUMP_FORWARD", "JUMP_BACKWARD_NO_INTERRUPT", "SEND")
_TAKES_NO_TIME = (*_JUMPS, "COPY", "END_SEND", "KW_NAMES", "LOAD_", "NOP", "POP_TOP", "PUSH_NULL", "SWAP")


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
    return frames[::-1] if any(rank(frame.f_code.co_filename) >= GENERATED for frame in frames) else []


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
        if at < len(steps) - 1 and steps[at].opname.startswith(("CALL", "PRECALL")):
            # CPython 3.11 makes the call of a builtin method in the PRECALL before the CALL.
            behind = at + 2 if steps[at].opname == "PRECALL" else at + 1
            calls.append(range(steps[at].offset, steps[behind].offset))
    return tuple(calls)


def is_bare(stack: tuple[Position, ...]) -> bool:
    """Whether nothing but the loop's own call of the callback is in the stack: the callback is in C, or not begun."""
    return stack[0][0] is _HANDLE_RUN
