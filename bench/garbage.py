"""Garbage collection as in asyncload during a load, for the bare programs: a comparison of equals."""

import gc

__all__ = ["prepare"]


def prepare() -> None:
    """Do what asyncload's `Participant` does before a load; it is repeated here for Pythons without Locust."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, *gc.get_threshold()[1:])
