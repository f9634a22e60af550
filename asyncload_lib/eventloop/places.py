"""From a stack to the line that blocked the loop, and to the words in which a report shows it.

Of the frames of one callback the innermost one of the user's own code is the culprit: it made the call that did not
return.
"""

import functools
import linecache
import os
import sysconfig
from dataclasses import dataclass
from itertools import islice
from types import CodeType

__all__ = [
    "AFTERWARDS",
    "HERE",
    "USER",
    "Place",
    "Position",
    "Spot",
    "culprit_spot",
    "described",
    "excerpt",
    "innermost_own",
    "rank",
]

Position = tuple[CodeType, int]
"""Code object and `f_lasti`: cheap to take while the stall lasts, resolved to a line afterwards."""

USER, GENERATED, LIBRARY, STDLIB = 3, 2, 1, 0
MAX_CALL_CHARS = 120
AFTERWARDS = "a call before this one"
"""Put before the call of a thread that was looked at only after the call that kept the GIL."""

HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
"""The directory of this package, whose own frames are nobody's culprit."""
_STDLIB = tuple(
    {spelt(sysconfig.get_path(key)) + os.sep for key in ("stdlib", "platstdlib") for spelt in (str, os.path.realpath)}
)


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


@functools.lru_cache(maxsize=4096)
def rank(filename: str) -> int:
    """USER for the user's own file, LIBRARY for an installed package, STDLIB for Python itself and this package.

    GENERATED for code that was no file: a decorator's or a dataclass's, but also the program of `python -c`.

    Judged by the name alone: to ask the file system would give the GIL away.
    """
    if filename.startswith(("<frozen", HERE)):
        return STDLIB
    if "site-packages" in filename or "dist-packages" in filename:
        return LIBRARY
    if filename.startswith("<"):
        return GENERATED
    return STDLIB if filename.startswith(_STDLIB) else USER


def innermost_own(stack: tuple[Position, ...]) -> int | None:
    """Index of the innermost frame of the best rank; None when only this package's frames are there."""
    best: int | None = None
    for index, (code, _) in enumerate(stack):
        if code.co_filename.startswith(HERE):
            continue
        if best is None or rank(code.co_filename) >= rank(stack[best][0].co_filename):
            best = index
    return best


def culprit_spot(stack: tuple[Position, ...], index: int | None = None) -> Spot | None:
    """The spot of the culprit in a stack, or of the frame `index`."""
    index = innermost_own(stack) if index is None else index
    if index is None:
        return None
    inner = next((position for position in reversed(stack) if not position[0].co_filename.startswith(HERE)), None)
    leads_on = inner is not None and inner[0] is not stack[index][0] and rank(inner[0].co_filename) < USER
    return Spot(stack[index], inner if leads_on else None)


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
