"""The four scenarios: which phases they run, and what is derived from them. Knows results, not how load is made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncload_lib.redaction import redact
from asyncload_lib.results.figures import counts, percentile, ratio, seconds
from asyncload_lib.results.model import Baseline, build_metric, time_problem
from asyncload_lib.results.phase import PhaseResult
from asyncload_lib.results.wording import time_words
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.verdict.comparison import PRACTICALLY_EQUAL
from asyncload_lib.verdict.defaults import JUDGED_SCENARIOS
from asyncload_lib.verdict.grammar import FREE_PHASES
from asyncload_lib.verdict.metrics import FREE

__all__ = ["Phase", "Scenario", "free_metric", "planned", "scenario_of", "suite_metric"]

Json = dict[str, Any]

P95_RATIOS: Mapping[str, Mapping[str, tuple[str, str, str | None]]] = {
    "chat": {"degradation": ("sustained", "few", None)},
    "mixed": {
        "redis_interference": ("mixed", "redis_alone", "REDIS"),
        "file_interference": ("mixed", "files_alone", "FILE"),
    },
}
"""By scenario and name: the p95 in the first phase over that in the second, of requests of one type or of all."""

SHORTEST_WAIT_S = 0.020
"""Where operations are to wait for each other, what is over sooner counts as this long: fifty that begin at one instant
are some milliseconds apart in the generator itself, which says nothing of who holds whom up."""

QUEUE_FACTOR = 10
"""A server that blocks makes the last of its queue wait for all the others."""

FILE_LIMIT_S = 2.0
"""What a file round trip may take, on average: it has no timeout of its own."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One load: `users` by name of the user class, released together.

    `limit_s`: when those who have not finished are cut off, counted from the release or the end of `sustain_s`, which
    is how long they go on (0: each does its part once). `baseline`: against the blocking service.
    """

    name: str
    users: Mapping[str, int]
    limit_s: float
    sustain_s: float = 0.0
    baseline: bool = False

    @property
    def user_count(self) -> int:
        return sum(self.users.values())


@dataclass(frozen=True, slots=True)
class Scenario:
    """Phases in order, the baseline last; `headline` is the phase whose figures stand for the scenario.

    `test_name` is fixed, whatever the settings: reports of different runs are found by it.
    """

    key: str
    test_name: str
    phases: tuple[Phase, ...]
    headline: str
    baseline_kind: str

    @property
    def concurrency(self) -> int:
        """How many users the headline releases at once: so many operations the baseline does, one after another."""
        return next(phase.user_count for phase in self.phases if phase.name == self.headline)

    def phase_key(self, phase: Phase) -> str:
        """Return the name under which the phase is recorded."""
        return f"{self.key}/{phase.name}"


def planned(settings: Settings, target: Target) -> list[Scenario]:
    """Return the scenarios that are asked for, without the baselines that have nothing to run against."""
    builders = {"chat": _chat, "redis": _redis, "mixed": _mixed, "vm_health": _vm_health}
    return [builders[key](settings, target) for key in settings.scenarios]


def _chat(settings: Settings, target: Target) -> Scenario:
    chat = settings.chat
    few_users = min(chat.few_users, chat.users)
    # Who starts lazily pays for it here, and not in a latency "without load" that hides what load costs.
    warm_up = Phase("warm_up", {"ChatBurst": few_users}, chat.timeout)
    few = Phase("few", {"ChatSustained": few_users}, chat.timeout, sustain_s=chat.sustain)
    sustained = Phase("sustained", {"ChatSustained": chat.users}, chat.timeout, sustain_s=chat.sustain)
    burst = Phase("burst", {"ChatBurst": chat.users}, chat.timeout)
    baseline = (
        Phase("baseline_warm_up", {"ChatBurst": few_users}, chat.timeout * QUEUE_FACTOR, baseline=True),
        Phase("baseline", {"ChatBurst": chat.users}, chat.timeout * QUEUE_FACTOR, baseline=True),
    )
    phases = (
        warm_up,
        *((few,) if chat.sustain else ()),
        burst,
        *((sustained,) if chat.sustain else ()),
        *(baseline if settings.baseline.enabled and target.baseline_host else ()),
    )
    name = "50 Concurrent Chat Requests (HTTP)"
    return Scenario("chat", name, phases, "burst", "a server whose handler blocks its event loop")


def _redis(settings: Settings, target: Target) -> Scenario:
    count, each_s = settings.redis.operations, _redis_limit_s(settings)
    phases = (
        Phase("burst", {"RedisOperation": count}, each_s),
        *_serial(settings, "RedisBaseline", count * each_s),
    )
    kind = "one blocking client, one operation after another"
    return Scenario("redis", "100 Concurrent Redis Operations", phases, "burst", kind)


def _mixed(settings: Settings, target: Target) -> Scenario:
    files, commands = settings.files.operations, settings.mixed.redis_operations
    each_s, files_s = _redis_limit_s(settings), files * FILE_LIMIT_S  # a disk may do one after another
    phases = (
        Phase("redis_alone", {"RedisOperation": commands}, each_s),
        Phase("files_alone", {"FileOperation": files}, files_s),
        Phase("mixed", {"FileOperation": files, "RedisOperation": commands}, files_s + each_s),
        *_serial(settings, "MixedBaseline", files_s + commands * each_s),
    )
    kind = "plain file calls and one blocking client, one operation after another"
    return Scenario("mixed", "Mixed File I/O + Redis Operations", phases, "mixed", kind)


def _vm_health(settings: Settings, target: Target) -> Scenario:
    count, each_s = len(target.vms), 2 * settings.vm_health.timeout  # to connect, and to answer
    phases = (
        Phase("checks", {"VmCheck": count}, each_s),
        *_serial(settings, "VmBaseline", count * each_s),
    )
    kind = "one machine after another"
    return Scenario("vm_health", "Cross-VM Concurrent Requests", phases, "checks", kind)


def _serial(settings: Settings, user_class: str, limit_s: float) -> tuple[Phase, ...]:
    return (Phase("baseline", {user_class: 1}, limit_s, baseline=True),) if settings.baseline.enabled else ()


def _redis_limit_s(settings: Settings) -> float:
    """Return what a SET and a GET may take: each waits for a connection, for it to be made, and for the answer."""
    return 6 * settings.redis.timeout


def suite_metric(
    scenario: Scenario,
    measured: Mapping[str, PhaseResult],
    target: Target,
    *,
    event_loops: Sequence[Json],
    start_skew_s: Mapping[str, float | None],
    watched_from_ns: int,
    file_note: str = "",
) -> Json:
    """Return the scenario's element of "metrics"; a phase that was never reached is empty, not missing.

    `file_note`: what there is to say of the place where its files lie.
    """
    results = {
        phase.name: measured.get(scenario.phase_key(phase)) or PhaseResult(scenario.phase_key(phase), phase.user_count)
        for phase in scenario.phases
    }
    blocking = results.pop("baseline", None)
    headline = results[scenario.headline]
    extra, notes = _extra(scenario, results, target)
    if file_note and "file_interference" in notes:
        notes["file_interference"] += f"; {file_note}"
    return build_metric(
        scenario.key,
        scenario.test_name,
        headline,
        list(results.values()),
        None if blocking is None else Baseline(blocking, scenario.baseline_kind),
        concurrency=scenario.concurrency,
        extra=extra,
        extra_notes=notes,
        event_loops=event_loops,
        vms=_vms(headline, target) if scenario.key == "vm_health" else (),
        start_skew_s=start_skew_s,
        watched_from_ns=watched_from_ns,
    )


def free_metric(
    scenario: str, measured: Mapping[str, PhaseResult], *, event_loops: Sequence[Json], watched_from_ns: int
) -> Json:
    """Return the one element of "metrics" of a run without scenarios."""
    headline = measured.get("run") or PhaseResult("run")
    phases = [measured[name] for name in FREE_PHASES if name in measured]
    name = "Load run" if scenario == FREE else f"Load run: {scenario}"
    return build_metric(
        scenario,
        name,
        headline,
        phases,
        None,
        concurrency=headline.users,
        event_loops=event_loops,
        watched_from_ns=watched_from_ns,
    )


def _extra(scenario: Scenario, results: Mapping[str, PhaseResult], target: Target) -> tuple[Json, dict[str, str]]:
    """Return the scenario's own figures, and what there is to say of them."""
    if scenario.key == "vm_health":
        return _reachability(results[scenario.headline], target), {}
    found = {
        name: _p95_ratio(results[above], results[below], kind)
        for name, (above, below, kind) in P95_RATIOS.get(scenario.key, {}).items()
        if {above, below} <= results.keys()
    }
    return {name: value for name, (value, _) in found.items()}, {name: note for name, (_, note) in found.items()}


def _p95_ratio(above: PhaseResult, below: PhaseResult, kind: str | None) -> tuple[float | None, str]:
    """Return how much longer the p95 of the requests of one kind is in one phase than in another, and its doubts."""
    least_s = SHORTEST_WAIT_S if kind is not None else 0.0
    p95s, told = [], []
    notes: dict[str, list[str]] = {}
    for phase in (above, below):
        name = phase.short_name
        if problem := time_problem(counts(phase), f"the phase {name}"):
            return None, problem
        p95 = percentile(_of_kind(phase, kind).ok, "p95")
        p95s.append(None if p95["value"] is None else max(p95["value"], least_s))
        told += [f"{name} {time_words(p95['value'])}"] if p95["value"] is not None else []
        if p95["note"]:
            notes.setdefault(p95["note"], []).append(name)
    doubts = [f"{' and '.join(names)}: {note}" for note, names in notes.items()]
    if least_s in p95s:
        doubts.insert(0, f"a p95 below {time_words(least_s)} is counted as {time_words(least_s)}")
    found = ratio(*p95s)
    if found is not None and found < 1 / PRACTICALLY_EQUAL:
        slower, faster = below.short_name, above.short_name
        nothing = "so this ratio says nothing about the cost of load"
        doubts.insert(0, f"the phase {slower} was slower than {faster}, {nothing}")
    return found, "; ".join([", ".join(told), *doubts])


def _of_kind(phase: PhaseResult, kind: str | None) -> PhaseResult:
    part = PhaseResult(phase.name)
    part.endpoints = {key: value for key, value in phase.endpoints.items() if kind in (None, key[0])}
    return part


def _reachability(checks: PhaseResult, target: Target) -> Json:
    up = sum(1 for endpoint in checks.endpoints.values() if endpoint.ok.count)
    # Not the latency: it counts from the common release, so that of checks in turn the last would seem as long as all.
    own_times = [checks.metric(name) for name in ("service_time", "failed_service_time")]
    slowest_us = max((own.max_us for own in own_times if own.count), default=None)
    wall_s, slowest_s = checks.total_time_s, None if slowest_us is None else seconds(slowest_us)
    return {
        "reachable": ratio(up, len(target.vms)),
        "slowest_check": slowest_s,
        "beyond_slowest": None if wall_s is None or slowest_s is None else max(wall_s - slowest_s, 0.0),
    }


def _vms(checks: PhaseResult, target: Target) -> list[Json]:
    rows = []
    for vm in target.vms:
        endpoint = checks.endpoints.get(("VM", vm.name))
        delay = checks.metrics.get(("send_delay", vm.name))
        is_up = bool(endpoint and endpoint.ok.count)
        tally = None if endpoint is None else endpoint.ok if is_up else endpoint.failed
        rows.append(
            {
                "name": vm.name,
                "kind": vm.kind,
                "url": redact(vm.url),
                "state": "up" if is_up else "down",
                "latency": seconds(tally.histogram.max_us) if tally and tally.histogram.count else None,
                "error": next((text for (_, name, text) in checks.errors if name == vm.name), None),
                "start_offset": seconds(delay.histogram.max_us) if delay and delay.histogram.count else None,
            }
        )
    return rows


def scenario_of(user_classes: Iterable[type]) -> str:
    """Return the scenario of a free run of these users: the one that all of them belong to, else "run"."""
    scenarios = {_scenario(user_class) for user_class in user_classes}
    return scenarios.pop() if len(scenarios) == 1 else "run"


def _scenario(user_class: type) -> str:
    """Return which scenario a user class belongs to; what its author calls `scenario` may be something else."""
    named = getattr(user_class, "scenario", "run")
    return named if isinstance(named, str) and named in JUDGED_SCENARIOS else "run"
