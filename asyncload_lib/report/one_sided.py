"""Targets whose event loop was seen from one side only, from inside or from outside, and why."""

from asyncload_lib.report.entries import Entry
from asyncload_lib.report.text import clean
from asyncload_lib.results.event_loops import NOT_INSIDE, deciding_loops
from asyncload_lib.verdict.stalls import is_watched

__all__ = ["NOTE_LENGTH", "from_one_side", "from_outside"]

NOTE_LENGTH = 800
"""So long a note is told whole: a witness may have several sentences to say."""

_NO_PROOF = "(loop.witness_path)"
"""Ends what an outside witness says whose check requests were refused."""


def from_one_side(loops: list[Entry]) -> str:
    """Say why the target was judged from one side only; "" where it was not."""
    return from_outside(loops) or _from_inside(loops)


def _from_inside(loops: list[Entry]) -> str:
    notes = [str(loop.get("note")) for loop in loops if loop.get("witness") == "outside" and not is_watched(loop)]
    note = next((note for note in notes if _NO_PROOF in note), "")
    return f"The target was not seen from outside: {clean(note, NOTE_LENGTH)}" if note else ""


def from_outside(loops: list[Entry]) -> str:
    """Say why the target was judged from outside only; "" where it was not."""
    deciding = [str(loop.get("note")) for loop in deciding_loops(loops) if is_watched(loop)]
    why = next((note.partition(NOT_INSIDE)[2] for note in deciding if NOT_INSIDE in note), "")
    misses = "misses stalls between two check requests, and stalls in workers that none of them reached"
    told = (
        f"The target's event loop was judged from outside only, which {misses}. The reason: {clean(why, NOTE_LENGTH)}"
    )
    return told if why else ""
