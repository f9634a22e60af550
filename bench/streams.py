"""What the readers of streams share: how an event says when it was sent, and where the delays are kept.

Server and reader run on one machine and take `perf_counter_ns`, which is one clock there, so the difference is the
event's way: the server's write, the kernel, and the time until the moment that the generator counts as its coming. For
asyncload that is what it reports the time to first token from; the others have nothing but the clock when they hold it.
"""

import itertools
import json
import os
import random
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["EVENTS", "Delays", "note", "paths", "save"]

EVENTS = 100

_SENT_NS, _SEEN_NS, _IS_FIRST = array("q"), array("q"), array("b")


def paths() -> Iterator[str]:
    """Yield what a user asks for: a stream of random length, then whole ones.

    Else all streams would end and begin at the same moment again and again, which is full load whatever the mean.
    """
    for events in itertools.chain([random.randint(1, EVENTS)], itertools.repeat(EVENTS)):
        yield f"/stream?n={events}&gap={os.environ.get('BENCH_GAP_US', '0')}"


def note(data: str | bytes, is_first: bool, seen_ns: int) -> None:
    """Read an event as a user would, as JSON, and note its way until the generator says that it came."""
    _SENT_NS.append(json.loads(data)["sent_ns"])
    _SEEN_NS.append(seen_ns)
    _IS_FIRST.append(is_first)


def save(path: str) -> None:
    """Keep what was noted; for the last listener of a run."""
    np.savez(path, sent_ns=np.array(_SENT_NS), seen_ns=np.array(_SEEN_NS), is_first=np.array(_IS_FIRST, bool))


class Delays:
    """The delays (ms) of the events that were sent from one moment to another (ns), as a generator noted them.

    Without the generator's start and its stop: what they cost is not how it reads. `read` counts those too.
    """

    def __init__(self, path: Path, from_ns: int, to_ns: int) -> None:
        with np.load(path) as kept:
            sent_ns, delay_ms, is_first = kept["sent_ns"], (kept["seen_ns"] - kept["sent_ns"]) / 1e6, kept["is_first"]
        inside = (from_ns <= sent_ns) & (sent_ns < to_ns)
        self.read = len(sent_ns)
        self.first_ms, self.later_ms = delay_ms[inside & is_first], delay_ms[inside & ~is_first]
        if not len(self.first_ms):
            raise ValueError("no event was read")

    def figures(self) -> dict[str, float]:
        first_p50, first_p99 = np.quantile(self.first_ms, (0.5, 0.99)).tolist()
        return {"first_p50": first_p50, "first_p99": first_p99, "later_p99": float(np.quantile(self.later_ms, 0.99))}
