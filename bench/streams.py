"""What the readers of streams share: how an event says when it was sent, and where the delays are kept.

Server and reader run on one machine and take `perf_counter_ns`, which is one clock there, so the difference is the
event's way: the server's write, the kernel, and the time until the generator had it in its hands.
"""

import json
import os
import time
from array import array
from pathlib import Path

import numpy as np

__all__ = ["EVENTS", "PATH", "Delays", "note", "save"]

EVENTS = 100
PATH = f"/stream?n={EVENTS}&gap={os.environ.get('BENCH_GAP_US', '0')}"


def note(data: str | bytes, delays_us: "array[float]") -> None:
    """Read an event as a user would, as JSON, and note its delay."""
    delays_us.append((time.perf_counter_ns() - json.loads(data)["sent_ns"]) / 1e3)


def save(path: str, first: "array[float]", later: "array[float]") -> None:
    np.savez(path, first=np.array(first), later=np.array(later))


class Delays:
    """The delays (ms) that a generator noted."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as kept:
            self.first_ms, self.later_ms = kept["first"] / 1e3, kept["later"] / 1e3
        if not len(self.first_ms):
            raise ValueError("no event was read")

    def figures(self) -> dict[str, float]:
        first_p50, first_p99 = np.quantile(self.first_ms, (0.5, 0.99)).tolist()
        return {"first_p50": first_p50, "first_p99": first_p99, "later_p99": float(np.quantile(self.later_ms, 0.99))}
