"""What coordinator and participants say to each other, in Locust's custom messages: their names, and their size."""

from typing import Any

import msgpack

__all__ = ["LIMIT_BYTES", "PLAN", "ToCoordinator", "ToParticipant", "fitted", "size_of"]

Json = dict[str, Any]

PLAN = "_asyncload_plan"
"""Attribute of Locust's options that tells workers, with Locust's own start message, what the next test is."""

LIMIT_BYTES = 64_000
"""The most a message holds."""

_ENVELOPE_BYTES = 2_000


class ToParticipant:
    """Messages from the coordinator."""

    IDENTIFY = "asyncload_identify"  # None: say hello
    PING = "asyncload_ping"  # {"sent_ns"}
    RELEASE = "asyncload_release"  # {"phase", "base", "at_ns"}: at_ns on this process's clock
    FINISH = "asyncload_finish"  # {"phase"}: begin nothing more
    FINALISE = "asyncload_finalise"  # {"token", "stop"}: flush, report, acknowledge
    WATCH = "asyncload_watch"  # None: forget what the monitors have seen so far


class ToCoordinator:
    """Messages to the coordinator; all carry plain msgpack types."""

    HELLO = "asyncload_hello"
    PONG = "asyncload_pong"  # {"sent_ns", "clock_ns"}
    STATE = "asyncload_state"  # {"phase", "users", "waiting", "done"}
    PART = "asyncload_part"  # a part of a cumulative snapshot
    FINAL = "asyncload_final"  # {"token", "farewell", "run_id", "health", ...}: all has been reported


def size_of(data: Any) -> int:
    """Return the size of a message in bytes; raises TypeError, ValueError or OverflowError if it cannot be packed."""
    return len(msgpack.packb(data))


def fitted(health: Json) -> Json:
    """Return a process's health in a form that fits into one message: what its loops found goes, the least first."""
    health = {**health, "event_loops": [dict(loop) for loop in health["event_loops"]]}
    while size_of(health) > LIMIT_BYTES - _ENVELOPE_BYTES:
        loop, key = max(
            ((loop, key) for loop in health["event_loops"] for key in ("culprits", "stall_times", "series")),
            key=lambda found: size_of(found[0][found[1]]),
        )
        loop[key] = loop[key][: len(loop[key]) // 2]
        note = "Not all findings are listed."
        loop["note"] = loop["note"] if note in (loop.get("note") or "") else f"{loop.get('note') or ''} {note}".strip()
    return health
