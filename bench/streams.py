"""What the readers of streams share: which streams they ask for, and how they note the delay of each event.

Server and reader run on one machine and take `perf_counter_ns`, which is one clock there. The difference is the event's
delay: the server's write, the kernel, and the time until the generator had it. Two ends are noted: the moment at which
the generator says that the event came (asyncload's time to first token ends there), and the moment at which the user's
code had it. For the other generators both are the same.
"""

import itertools
import json
import os
import random
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["EVENTS", "Delays", "note", "paths", "save"]

EVENTS = 100
"""Of a whole stream."""

_NOTED = array("q")
"""Of each event: sent, seen and held (ns), and whether it was the first of its stream."""


def paths() -> Iterator[str]:
    """Yield what a user asks for: a stream of random length, then whole ones.

    Otherwise all streams would end and begin at the same moments, and be full load then, whatever the mean.
    """
    for events in itertools.chain([random.randint(1, EVENTS)], itertools.repeat(EVENTS)):
        yield f"/stream?n={events}&gap={os.environ.get('BENCH_GAP_US', '0')}"


def note(data: str | bytes, is_first: bool, seen_ns: int) -> None:
    """Read an event as a user would, as JSON, and note its times; `seen_ns`: when the generator says that it came."""
    held_ns, sent_ns = time.perf_counter_ns(), json.loads(data)["sent_ns"]
    _NOTED.extend((sent_ns, seen_ns, held_ns, is_first))  # one call, so that a signal cannot leave half of it


def save(path: str) -> None:
    """Keep what was noted; for the last listener of a run."""
    np.save(path, np.array(_NOTED).reshape(-1, 4))


class Delays:
    """The delays (ms) of the events that were sent between two moments (ns), as a generator noted them.

    This leaves out the generator's start and its stop, which say nothing of how it reads. `read` counts all events.
    """

    def __init__(self, path: Path, from_ns: int, to_ns: int) -> None:
        sent_ns, seen_ns, held_ns, first = np.load(path).T
        seen_ms, held_ms, is_first = (seen_ns - sent_ns) / 1e6, (held_ns - sent_ns) / 1e6, first.astype(bool)
        inside = (from_ns <= sent_ns) & (sent_ns < to_ns)
        self.read = len(sent_ns)
        self.first_ms, self.later_ms = seen_ms[inside & is_first], seen_ms[inside & ~is_first]
        self.first_held_ms = held_ms[inside & is_first]
        if not len(self.first_ms):
            raise ValueError("no event was read")

    def figures(self) -> dict[str, float]:
        first_p50, first_p99 = np.quantile(self.first_ms, (0.5, 0.99)).tolist()
        held_p99, later_p99 = (float(np.quantile(ms, 0.99)) for ms in (self.first_held_ms, self.later_ms))
        return {"first_p50": first_p50, "first_p99": first_p99, "held_p99": held_p99, "later_p99": later_p99}
