"""Targets whose event loop was seen from one side only, from inside or from outside: why, and what to mend."""

from asyncload_lib.report.entries import Entry
from asyncload_lib.report.text import clean
from asyncload_lib.results.event_loops import NOT_INSIDE, deciding_loops
from asyncload_lib.verdict.stalls import is_watched

__all__ = ["NOTE_LENGTH", "from_one_side", "from_outside"]

NOTE_LENGTH = 800
"""So long a note is told whole: a witness may have several sentences to say."""

_MENDS = {
    "no probe token is known": " Set loop.probe_token to the token of the LoopProbe in the target.",
    "answered 401": " The token is wrong: set loop.probe_token to that of the LoopProbe in the target.",
    "answered 404": " No LoopProbe is there: mount one in the target, or set loop.probe_path to where it is.",
    "not a probe's": " No LoopProbe is there: mount one in the target, or set loop.probe_path to where it is.",
}

_NO_PROOF = "(loop.witness_path)"
"""Ends what an outside witness says whose check requests were refused."""


def from_one_side(loops: list[Entry]) -> str:
    """Say why the target was judged from one side only, and what to mend; "" where it was not."""
    return from_outside(loops) or _from_inside(loops)


def _from_inside(loops: list[Entry]) -> str:
    notes = [str(loop.get("note")) for loop in loops if loop.get("witness") == "outside" and not is_watched(loop)]
    note = next((note for note in notes if _NO_PROOF in note), "")
    return f"The target was not seen from outside: {clean(note, NOTE_LENGTH)}" if note else ""


def from_outside(loops: list[Entry]) -> str:
    """Say why the target was judged from outside only, and what to mend; "" where it was not."""
    deciding = [str(loop.get("note")) for loop in deciding_loops(loops) if is_watched(loop)]
    why = next((note.partition(NOT_INSIDE)[2] for note in deciding if NOT_INSIDE in note), "")
    if not why:
        return ""
    mend = next((mend for words, mend in _MENDS.items() if words in why), "")
    return (
        f"The target's event loop was judged from outside only, because {clean(why.rstrip('.'))}: it misses "
        f"stalls between two check requests, and stalls in workers that none of them reached.{mend}"
    )
