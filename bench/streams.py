"""What the readers of streams share: which streams they ask for, and how they note the delay of each event.

Server and reader run on one machine and take `perf_counter_ns`, which is one clock there. The difference is the event's
delay: the server's write, the kernel, and the time until the generator had it. Two ends are noted: the moment at which
the generator says that the event came (asyncload's time to first token ends there), and the moment at which the user's
code had it. For the other generators both are the same.
"""

import json
import os
import random
import time
from array import array
from pathlib import Path

import numpy as np

__all__ = ["EVENTS", "Delays", "Reader", "save"]

EVENTS = 100
"""Of a whole stream."""

_NOTED = array("q")
"""Of each event: sent, seen and held (ns), and whether it was the first of its stream."""

_LOST = array("q")
"""Of each stream that ended before all of its events were read: how many were not."""


class Reader:
    """The streams of one user, one after another: `path()` asks for the next one, `note()` takes an event of it.

    Who asks for the next stream has ended the one before. So what a stream lacks then is lost, and only what the run's
    end cut off is excused: each user's last stream.
    """

    def __init__(self) -> None:
        self._asked = self._left = 0

    def path(self) -> str:
        """Return the path of a stream of random length, then those of whole ones.

        Otherwise all streams would end and begin at the same moments, and be full load then, whatever the mean.
        """
        if self._left:
            _LOST.append(self._left)
        self._asked = self._left = EVENTS if self._asked else random.randint(1, EVENTS)
        return f"/stream?n={self._asked}&gap={os.environ.get('BENCH_GAP_US', '0')}"

    def note(self, data: str | bytes, seen_ns: int) -> None:
        """Read an event as a user would, as JSON, and note its times; `seen_ns`: when the generator says it came."""
        held_ns, sent_ns, is_first = time.perf_counter_ns(), json.loads(data)["sent_ns"], self._left == self._asked
        _NOTED.extend((sent_ns, seen_ns, held_ns, is_first))  # one call, so that a signal cannot leave half of it
        self._left -= 1


def save(path: str) -> None:
    """Keep what was noted; for the last listener of a run."""
    np.savez(path, noted=np.array(_NOTED).reshape(-1, 4), lost=np.array(_LOST))


class Delays:
    """The delays (ms) of the events that were sent between two moments (ns), as a generator noted them.

    This leaves out the generator's start and its stop, which say nothing of how it reads. Raises ValueError if it did
    not read a stream that it ended, or none at all.
    """

    def __init__(self, path: Path, from_ns: int, to_ns: int) -> None:
        with np.load(path) as kept:
            (sent_ns, seen_ns, held_ns, first), lost = kept["noted"].T, kept["lost"]
        if len(lost):
            raise ValueError(f"{len(lost)} streams ended before {lost.sum()} of their events were read")
        seen_ms, held_ms, is_first = (seen_ns - sent_ns) / 1e6, (held_ns - sent_ns) / 1e6, first.astype(bool)
        inside = (from_ns <= sent_ns) & (sent_ns < to_ns)
        self.first_ms, self.later_ms = seen_ms[inside & is_first], seen_ms[inside & ~is_first]
        self.first_held_ms = held_ms[inside & is_first]
        if not len(self.first_ms):
            raise ValueError("no event was read")

    def figures(self) -> dict[str, float]:
        first_p50, first_p99 = np.quantile(self.first_ms, (0.5, 0.99)).tolist()
        held_p99, later_p99 = (float(np.quantile(ms, 0.99)) for ms in (self.first_held_ms, self.later_ms))
        return {"first_p50": first_p50, "first_p99": first_p99, "held_p99": held_p99, "later_p99": later_p99}
