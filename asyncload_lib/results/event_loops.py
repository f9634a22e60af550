"""The event loops in a results document: whose each is, and which of them decide whether one was blocked."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["HUB", "NOT_INSIDE", "any_blocked", "deciding_loops", "is_of_generator", "is_of_target"]

HUB = "generator hub"
"""Name of the loop of Locust's greenlets, in `event_loops`."""

NOT_INSIDE = "The loop was not watched from inside: "
"""Begins the last sentences in the note of an outside witness that stands alone."""

Loop = Mapping[str, Any]


def is_of_target(loop: Loop) -> bool:
    """Tell whether one of `event_loops` is the target's, from whichever side it was seen."""
    return str(loop.get("name")).startswith("target")


def is_of_generator(loop: Loop) -> bool:
    """Tell whether one of `event_loops` is the generator's: that of its users, or Locust's hub."""
    return str(loop.get("name")).startswith("generator")


def deciding_loops(event_loops: Sequence[Loop]) -> list[Loop]:
    """Return the loops that decide whether one was blocked.

    Locust's own hub runs no user: how late it is says whether the generator is valid, not whether a loop was blocked.
    Where a target was watched from inside, that witness decides: from outside, a queue looks like a blocked loop.
    """
    asyncio_loops = [loop for loop in event_loops if loop.get("name") != HUB]
    inside = [loop for loop in asyncio_loops if loop.get("witness") == "inside"]
    return inside if any(map(is_of_target, inside)) else asyncio_loops


def any_blocked(event_loops: Sequence[Loop]) -> bool | None:
    """Return whether any deciding loop was blocked; None if one of them, or none at all, gave no answer."""
    answers = [loop.get("blocked") for loop in deciding_loops(event_loops)]
    if True in answers:
        return True
    return False if answers and None not in answers else None
