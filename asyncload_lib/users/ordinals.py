"""A number for every user of a run, over all its processes."""

import itertools
from typing import Any

__all__ = ["next_ordinal", "worker_index"]

USERS_PER_WORKER = 1_000_000
"""Numbers that each worker has for itself; more than it will ever spawn users."""

_numbers = itertools.count()


def worker_index(environment: Any) -> int:
    """Return which worker this process is; 0 where it is the only one."""
    return max(getattr(environment.runner, "worker_index", 0), 0)


def next_ordinal(environment: Any) -> int:
    """Return a number that no other user has, in this process or on another worker."""
    return worker_index(environment) * USERS_PER_WORKER + next(_numbers)
