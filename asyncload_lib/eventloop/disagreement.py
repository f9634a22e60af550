"""Where the two witnesses of a target's loop, the probe inside and the check requests from outside, do not agree."""

from collections.abc import Sequence
from typing import Any

__all__ = ["disagreement", "unexplained"]


def disagreement(inside: dict[str, Any], outside: dict[str, Any]) -> str | None:
    """Return a sentence if a worker's probe tells of a stall that the outside witness should have seen, else None.

    A stall may fall between two check requests: only a longer one is a contradiction.
    """
    if outside["blocked"] is None or inside["blocked"] is None:
        silent = "outside" if outside["blocked"] is None else "inside"
        return f"The witnesses cannot be compared: the {silent} one could not tell."
    seen, limit_s = inside["max_stall"], max(inside["limit_s"], outside["limit_s"])
    if inside["blocked"] and not outside["blocked"] and seen > outside["period_s"] + limit_s:
        return (
            f"The witnesses disagree: inside, a stall of {seen * 1e3:.0f} ms was measured; from outside, no answer was"
            f" late by {limit_s * 1e3:.0f} ms. The check requests were answered by another worker or a cache."
        )
    return None


def unexplained(inside: Sequence[dict[str, Any]], outside: dict[str, Any]) -> str | None:
    """Return a sentence if an answer that proves a stall was later than the loop of any worker ever was, else None.

    `inside`: all workers that were read, each of which was judged. The delay as a whole is not called a stall, for only
    a part of it is proven to be one. A queue looks like a stall, but a loop that has a queue is late as well; whose it
    was is unknown if it stood before the loop and one of its requests took longer than the limit.
    """
    told = outside["proven_delay"] or 0.0
    felt = max(max(row["max_stall"], row["lag"]["max"] or 0.0) for row in inside)
    if told <= felt + outside["period_s"] + max(outside["limit_s"], *(row["limit_s"] for row in inside)):
        return None
    whose = "the loop itself was" if len(inside) == 1 else "the loops that were read were"
    return (
        f"The witnesses differ: seen from outside, an answer was late by {told * 1e3:.0f} ms and a stall of at least"
        f" {(outside['proven_stall'] or 0.0) * 1e3:.0f} ms is proven, but {whose} never late by more than"
        f" {felt * 1e3:.0f} ms. The other {(told - felt) * 1e3:.0f} ms were several such lags one after another, or"
        " passed outside the loop: network, accept queue, proxy, thread pool, or another worker that the LoopProbe did"
        " not read."
    )
