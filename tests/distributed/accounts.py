"""The books of a run: what its report says, against what the target wrote down."""

import json
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Any

from asyncload_lib.demo.stack import DemoStack

__all__ = ["by_process", "differences", "imbalances", "operations", "phases", "read_ledger", "row"]

Json = dict[str, Any]


def phases(results: Json) -> dict[str, Json]:
    """Return every phase of a run, the baselines too, as "chat/burst"."""
    found: dict[str, Json] = {}
    for metric in results["metrics"]:
        for phase in [*metric["phases"], *([metric["baseline"]] if metric["baseline"] else [])]:
            found[f"{metric['scenario']}/{phase.get('phase') or 'baseline'}"] = phase
    return found


def imbalances(results: Json) -> list[str]:
    """Return the phases in which something was started and neither ended nor was given up."""
    return [
        f"{name}: {phase['started_requests']} started, {phase['successful_requests']} ok, "
        f"{phase['failed_requests']} failed, {phase['abandoned_requests']} abandoned"
        for name, phase in phases(results).items()
        if phase["started_requests"]
        != phase["successful_requests"] + phase["failed_requests"] + phase["abandoned_requests"]
    ]


def operations(results: Json, request_type: str) -> int:
    """Return how many requests of a type the report counts over all phases."""
    return sum(
        endpoint["total_requests"]
        for phase in phases(results).values()
        for endpoint in phase["endpoints"]
        if endpoint["type"] == request_type
    )


def read_ledger(stack: DemoStack, path: str = "") -> Json:
    """Return the target's ledger; unlike the stack's own method in any process."""
    with urllib.request.urlopen(stack.ledger_url + path) as answer:
        counts: Json = json.load(answer)
    return counts


def by_process(stack: DemoStack, state: str | None = None) -> Counter[int]:
    """Return how many requests of `chat_by_process.py` each process sent; `state`: only those that came to this."""
    found: Counter[int] = Counter()
    for request_id, last in read_ledger(stack, "/ids")["ids"]["backend"].items():
        if state in (None, last):
            found[int(request_id.split("-")[3])] += 1  # a run's id is date-time-random
    return found


def differences(results: Json, ledger: Mapping[str, Any]) -> list[str]:
    """Return where report and target disagree; empty for a run in which nothing was lost or invented."""
    abandoned = sum(phase["abandoned_requests"] for phase in phases(results).values())
    pairs = {
        "chat requests": (operations(results, "POST"), ledger["chat"]["answered"] + ledger["chat"]["failed"]),
        "duplicates": (0, ledger["chat"]["duplicates"]),
        "SET": (operations(results, "REDIS"), ledger["redis"]["commands"].get("set", 0)),
        "GET": (operations(results, "REDIS"), ledger["redis"]["commands"].get("get", 0)),
    }
    return [
        f"{what}: {told} in the report, {found} at the target ({abandoned} were given up)"
        for what, (told, found) in pairs.items()
        if not told <= found <= told + (abandoned if what != "duplicates" else 0)
    ] + imbalances(results)


def row(results: Json, pid: int) -> Json:
    """Return the report's row about the worker of this process."""
    found: list[Json] = [worker for worker in results["workers"] if worker["pid"] == pid]
    assert len(found) == 1, results["workers"]
    return found[0]
