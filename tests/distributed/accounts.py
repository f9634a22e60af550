"""The books of a run: what its report says, against what the target wrote down."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from asyncload_lib.demo.stack import DemoStack

__all__ = [
    "by_process",
    "check_whole_suite",
    "differences",
    "imbalances",
    "lost_s",
    "operations",
    "phases",
    "read_ids",
    "read_ledger",
    "row",
]

Json = dict[str, Any]

_COUNTS = {"chat/burst": 50, "redis/burst": 100, "mixed/redis_alone": 25, "mixed/files_alone": 25, "mixed/mixed": 50}
_COUNTS["vm_health/checks"] = 6


def phases(results: Json) -> dict[str, Json]:
    """Return every phase of a run, the baselines too, as "chat/burst"."""
    found: dict[str, Json] = {}
    for metric in results["metrics"]:
        for phase in [*metric["phases"], *([metric["baseline"]] if metric["baseline"] else [])]:
            found[f"{metric['scenario']}/{phase.get('phase') or 'baseline'}"] = phase
    return found


def imbalances(results: Json) -> list[str]:
    """Return where something was started that neither ended nor was given up, beyond what lost workers had in hand."""
    missing = {
        name: phase["started_requests"]
        - (phase["successful_requests"] + phase["failed_requests"] + phase["abandoned_requests"])
        for name, phase in phases(results).items()
    }
    in_hand = sum(worker["in_flight"] for worker in results["workers"] if worker["state"] == "lost")
    if min(missing.values()) >= 0 and sum(missing.values()) == in_hand:
        return []
    return [f"started and not ended: {missing}; lost workers had {in_hand} in hand"]


def operations(results: Json, request_type: str) -> int:
    """Return how many requests of a type the report counts over all phases."""
    return sum(
        endpoint["total_requests"]
        for phase in phases(results).values()
        for endpoint in phase["endpoints"]
        if endpoint["type"] == request_type
    )


def read_ledger(stack: DemoStack) -> Json:
    """Return what the target wrote down."""
    return stack.ledger()


def read_ids(stack: DemoStack) -> dict[str, str]:
    """Return the ids of the chat requests that came to the target, each with what became of it."""
    ids: dict[str, str] = stack.ledger_ids()["ids"]["backend"]
    return ids


def by_process(ids: Mapping[str, str], state: str | None = None) -> Counter[int]:
    """Return how many requests of `chat_by_process.py` each process sent; `state`: only those that came to this.

    `ids`: request id -> its last state, from the ledger. A run's id is date-time-random; the process follows it.
    """
    return Counter(int(request_id.split("-")[3]) for request_id, last in ids.items() if state in (None, last))


def lost_s(ids: Mapping[str, str], pid: int, told: int, killed_ns: int) -> float:
    """Return the age (s), at the moment of the kill, of the oldest answered request that the report does not have.

    Its age since it was sent, reckoned as if answers came in the order of the requests: right to a response time. 0
    when nothing is missing. `told`: how many operations of the process the report has.
    """
    answered = (request_id.split("-") for request_id, last in ids.items() if last == "answered")
    sent_ns = sorted(int(sent) for _, _, _, process, _, sent in answered if int(process) == pid)
    return (killed_ns - sent_ns[told]) / 1e9 if told < len(sent_ns) else 0.0


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


def check_whole_suite(results: Json, pids: Collection[int]) -> None:
    """Fail unless a run of all scenarios did what was asked, and tells of each worker what it did and how it was."""
    found = phases(results)
    for figure in ("total_requests", "concurrency"):
        assert {name: found[name][figure] for name in _COUNTS} == _COUNTS, figure
    workers = [row(results, pid) for pid in pids]
    assert len(results["workers"]) == len(pids)
    assert sum(worker["operations"] for worker in workers) == sum(p["total_requests"] for p in found.values())
    judged = {process["process"]: process for process in results["generator"]["processes"]}
    for worker in workers:
        for figure in ("cpu_percent_max", "loop_lag_p99", "hub_lag_p99"):
            assert worker[figure] == judged[f"{worker['host']}:{worker['pid']}"][figure], worker
        assert worker["state"] == "complete", worker
        assert worker["operations"] > 0, worker
        assert worker["version"], worker
        assert abs(worker["clock_offset_s"]) < 1, worker
        assert worker["loop_lag_p99"] is not None, worker
