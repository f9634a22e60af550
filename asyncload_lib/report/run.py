"""The run itself prepared for display: where, with what, how loaded the generator was, and how it was measured."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from asyncload_lib.report.entries import Entry, items, mapping, mappings
from asyncload_lib.report.numbers import NOTHING, count, duration, quantity, rate, short_duration
from asyncload_lib.report.table import Fact, Table, Verdict, build_table, verdict
from asyncload_lib.report.text import clean
from asyncload_lib.results.figures import number
from asyncload_lib.units import duration_written, size_written

__all__ = [
    "GeneratorSection",
    "environment_table",
    "generator_section",
    "how_measured",
    "run_facts",
    "settings_table",
    "worker_table",
]


def run_facts(results: Entry) -> tuple[Fact, ...]:
    """The line under the verdict: target, load, time, identity, and what was simulated."""
    run, summary = mapping(results.get("run")), mapping(results.get("summary"))
    target = mapping(run.get("target"))
    kind = "embedded demo" if target.get("embedded") is True else ""
    mode = clean(target["mode"], 20) if target.get("mode") else ""
    phases = [phase.get("phase") for m in mappings(results.get("metrics")) for phase in mappings(m.get("phases"))]
    scope = "in the headline phases" if run.get("kind") == "suite" else "after the ramp" if "ramp" in phases else ""
    facts = [
        Fact("Target", clean(target.get("host"), 120), ", ".join(filter(None, (kind, mode))), code=True),
        Fact("Started", _moment(run.get("started") or results.get("timestamp"))),
        Fact("Duration", duration(run.get("duration_s"))),
        Fact("Requests", count(summary.get("total_requests")), scope),
        Fact("Status", clean(run.get("status"), 40)),
        Fact("Seed", clean(run.get("seed"), 40)),
        Fact("Run", clean(run.get("id"), 60), code=True),
    ]
    simulated = mapping(run.get("simulated"))
    if simulated:
        told = [f"{clean(key, 40).replace('_', ' ')} {short_duration(value)}" for key, value in simulated.items()]
        facts.append(Fact("Simulated", ", ".join(told)))
    return tuple(fact for fact in facts if fact.value != NOTHING)


def _moment(value: Any) -> str:
    """Write an ISO moment for people; whatever else came is shown as it came."""
    words = clean(value, 40)
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)$", r"\1 \2 UTC", words)


@dataclass(frozen=True)
class GeneratorSection:
    """Health of the load generator: whether its figures can be trusted, and the reasons if not."""

    table: Table | None
    verdict: Verdict
    reasons: tuple[str, ...]


def generator_section(generator: Entry) -> GeneratorSection:
    """Prepare the `generator` of the results."""
    table = build_table(
        "Load generator",
        [
            ("Process", "code", lambda row: clean(row.get("process"), 60)),
            ("Highest CPU", "number", lambda row: _limited(row, "cpu_percent_max", _cpu)),
            ("Hub lag p99", "number", lambda row: _limited(row, "hub_lag_p99", duration)),
            ("Loop lag p99", "number", lambda row: _limited(row, "loop_lag_p99", duration)),
            ("Send delay p99", "number", lambda row: _limited(row, "send_delay_p99", duration)),
        ],
        mappings(generator.get("processes")),
        "In brackets: the limits; beyond one of them, the run says nothing about the target.",
    )
    states = {True: Verdict("valid", "✓", "pass"), False: verdict("invalid")}
    valid = generator.get("valid")
    state = states[valid] if isinstance(valid, bool) else Verdict("not watched", "○", "none")
    return GeneratorSection(table, state, tuple(clean(reason, 300) for reason in items(generator.get("reasons"))))


def _cpu(percent: Any) -> str:
    return NOTHING if number(percent) is None else f"{quantity(percent)} %"


def _limited(row: Entry, key: str, words: Callable[[Any], str]) -> str:
    limit = number(mapping(row.get("limits")).get(key))
    observed = words(row.get(key))
    if limit is None or observed == NOTHING:
        return observed
    return f"{observed} ({short_duration(limit) if words is duration else words(limit)})"


def worker_table(workers: list[Entry]) -> Table | None:
    """One row per worker; a lost one is named with the moment it was lost."""
    return build_table(
        "Workers",
        [
            ("Worker", "code", lambda row: clean(row.get("id"), 60)),
            ("State", "text", _state),
            ("Process", "code", _process),
            ("Operations", "number", lambda row: count(row.get("operations"))),
            ("Throughput", "number", lambda row: rate(row.get("requests_per_second"))),
            ("p95 (ok)", "number", lambda row: duration(row.get("p95_latency"))),
            ("Highest CPU", "number", lambda row: _cpu(row.get("cpu_percent_max"))),
            ("Loop lag p99", "number", lambda row: duration(row.get("loop_lag_p99"))),
            ("Hub lag p99", "number", lambda row: duration(row.get("hub_lag_p99"))),
            ("Last report", "number", lambda row: _ago(row.get("last_report_age"))),
            ("Clock offset", "number", lambda row: duration(row.get("clock_offset_s"))),
            ("Version", "text", lambda row: clean(row.get("version"), 30)),
            ("Settings", "code", lambda row: clean(row.get("settings_fingerprint"), 16)),
        ],
        workers,
        "Operations, throughput and p95 cover all phases; CPU and lags are the worst of all scenarios. Neither "
        "includes the baselines, which block on purpose."
        + "".join(f" {clean(row.get('id'), 60)}: {clean(row['note'], 200)}." for row in workers if row.get("note")),
    )


def _state(row: Entry) -> str:
    lost = "" if row.get("lost_at") is None else f", {_moment(row['lost_at'])}"
    return clean(row.get("state"), 30) + lost


def _process(row: Entry) -> str:
    host, pid = clean(row.get("host"), 60), clean(row.get("pid"), 12)
    return host if pid == NOTHING else f"{host}:{pid}"


def _ago(age: Any) -> str:
    return NOTHING if number(age) is None else f"{duration(age)} ago"


def environment_table(run: Entry) -> Table | None:
    """Host, interpreter, versions: what a later reader needs to repeat the run."""
    host = mapping(run.get("host"))
    load = host.get("load_average")
    pairs = [
        ("command", clean(run.get("command"), 300)),
        ("host", clean(host.get("name"), 80)),
        ("operating system", clean(host.get("os"), 120)),
        ("CPUs", count(run.get("cpu_count"))),
        ("load average", ", ".join(map(quantity, load)) if isinstance(load, list) else quantity(load)),
        ("Python", clean(run.get("python"), 80)),
        ("event loop", clean(run.get("loop"), 60)),
        ("git commit", clean(run.get("git_commit"), 60)),
        ("started", _moment(run.get("started"))),
        ("ended", _moment(run.get("ended"))),
        *((clean(name, 40), clean(version, 40)) for name, version in mapping(run.get("versions")).items()),
    ]
    known = [pair for pair in pairs if pair[1] != NOTHING]
    return build_table("Environment", _PAIR, known)


def settings_table(settings: Entry) -> Table | None:
    """The settings as they held, secrets redacted at the source."""
    return build_table(
        "Settings",
        _PAIR,
        [(clean(key, 60), _setting(str(key), value)) for key, value in sorted(settings.items(), key=str)],
    )


_PAIR = [("Name", "text", lambda pair: pair[0]), ("Value", "code", lambda pair: pair[1])]


_UNITS: Mapping[str, Callable[[float], str]] = {
    **dict.fromkeys(
        ("stop_timeout", "sustain", "timeout", "think_median", "ttl", "limit", "period", "model_time", "network_delay",
         "vm_delay", "max_loop_lag", "max_hub_lag", "max_send_delay"),
        partial(duration_written, gap=" "),
    ),
    **dict.fromkeys(("value_bytes", "bytes", "max_bytes"), partial(size_written, gap=" ")),
    "max_cpu": lambda value: f"{value:g} %",
    "witness_rate": lambda value: f"{value:g}/s",
}  # fmt: skip
"""How a number is written, by the last part of the name of its setting."""


def _setting(key: str, value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return clean(", ".join(_setting("", item) for item in value), 2_000) if value else "none"
    if isinstance(value, Mapping):
        return clean(f"{value.get('name')} = {value.get('url')}", 300)
    figure, words = number(value), _UNITS.get(key.rpartition(".")[2])
    if figure is None or words is None:
        return f"{value:.12g}" if isinstance(value, float) else clean(value, 300)
    return words(figure)


def how_measured(results: Entry) -> tuple[str, ...]:
    """The rules behind the figures, with the limits of this run."""
    loops = [loop for m in mappings(results.get("metrics")) for loop in mappings(m.get("event_loops"))]
    limit = next(
        (short_duration(loop.get("limit_s")) for loop in loops if number(loop.get("limit_s")) is not None), NOTHING
    )
    stall = "" if limit == NOTHING else f" A stall is a time of {limit} or more in which the loop does not respond."
    return (
        "Latency runs from the intended start of an operation to its last byte, on a monotonic clock inside the "
        "coroutine; the clock of a phase starts when all of its users are ready.",
        "Percentiles are of successful requests only, from a log-linear histogram with a relative error of at most "
        "0.1 %; failed requests have percentiles of their own. Percentiles over time are coarser (1.6 %).",
        "The interval beside a percentile covers the true value with 95 % confidence (order statistics, no assumption "
        "about the distribution); a percentile for which the sample is too small is marked as not resolved.",
        "The lag of an event loop is measured by a heartbeat inside it (inside) and by check requests to a trivial "
        f"endpoint at a fixed rate (outside).{stall} A stall counts as blocked only if one callback of the loop's own "
        "code took that long or, in the target, another thread, which is named, held the interpreter lock (GIL); "
        "garbage collection, a busy machine and other holders of the GIL are listed separately.",
        'The loop "generator" runs the users; "generator hub" is Locust\'s own, which decides nothing but whether the '
        "generator kept up.",
        "Improvement is the blocking total time divided by the async total time. With C users and a single-threaded "
        "blocking server it approaches C by construction.",
        "No data is never a pass: a criterion without samples does not hold.",
    )
