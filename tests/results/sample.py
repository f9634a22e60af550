"""A whole results document, made by real recorders from seeded latencies: what reports and verdicts are tried on."""

from collections.abc import Callable
from typing import Any

import numpy as np

from asyncload_lib.results.model import Baseline, build_metric, build_results
from asyncload_lib.results.phase import PhaseResult
from asyncload_lib.results.recorder import Recorder
from asyncload_lib.verdict.criteria import verdict

MS = 1_000_000
SECOND = 1_000_000_000
START = 5 * SECOND

VMS = [
    ("Main", "http", "http://127.0.0.1:40001/api/health"),
    ("Frontend", "http", "http://127.0.0.1:40002/"),
    ("NPU", "http", "http://127.0.0.1:40003/health"),
    ("Redis", "redis", "redis://127.0.0.1:40004/0"),
    ("AI-Stack", "http", "http://127.0.0.1:40005/health"),
    ("Browser", "http", "http://127.0.0.1:40006/health"),
]


def sample_results(seed: int = 1, *, mode: str = "async", generator_valid: bool = True) -> dict[str, Any]:
    """Return a suite run of all four scenarios; `mode="blocking"` is the run in which the target blocks its loop."""
    rng = np.random.default_rng(seed)
    phases = _record(rng, blocking=mode == "blocking")
    metrics = [_chat(phases, mode), _redis(phases), _mixed(phases), _vm_health(phases)]
    run, criteria, generator = _run(seed, mode), _criteria(metrics), _generator(generator_valid)
    if not generator_valid:
        run.update(status="invalid", status_reasons=generator["reasons"])
    word, _ = verdict(criteria, run["status"])
    return build_results(run, metrics, criteria, generator, [_worker(phases)], verdict=word)


def _record(rng: np.random.Generator, *, blocking: bool) -> dict[str, PhaseResult]:
    recorder = Recorder("sample", clock_ns=lambda: START)
    model_ms = 200.0

    def burst(phase: str, users: int, endpoints: list[tuple[str, str]], latency: Callable[[int], float]) -> None:
        recorder.begin(phase, users, t0_ns=START)
        recorder.add_started(users)
        for i, latency_ms in enumerate(sorted(latency(i) for i in range(users))):
            recorder.tick(START + int(latency_ms * MS))
            recorder.add(*endpoints[i % len(endpoints)], latency_ms, None)
        recorder.end()

    def chat(queue: int) -> float:
        waiting_ms = model_ms * queue if blocking else 0.0
        return model_ms + waiting_ms + float(rng.lognormal(1.5, 0.6))

    post = [("POST", "/api/chat")]
    burst("chat/few", 5, post, chat)
    burst("chat/burst", 50, post, chat)
    _sustain(recorder, rng, chat)
    burst("chat/baseline", 50, post, lambda i: model_ms * (i + 1) + float(rng.lognormal(0.0, 0.5)))

    redis, files = [("REDIS", "SET"), ("REDIS", "GET")], [("FILE", "roundtrip")]
    burst("redis/burst", 200, redis, lambda _: 5.0 + float(rng.lognormal(1.8, 0.5)))
    burst("redis/baseline", 200, redis, lambda i: 5.3 * (i + 1))
    burst("mixed/redis_alone", 25, redis[:1], lambda _: 5.0 + float(rng.lognormal(1.2, 0.4)))
    burst("mixed/files_alone", 25, files, lambda _: 12.0 + float(rng.lognormal(2.5, 0.3)))
    burst("mixed/burst", 50, [*redis[:1], *files], lambda _: 9.0 + float(rng.lognormal(1.5, 0.4)))
    burst("mixed/baseline", 50, [*redis[:1], *files], lambda i: 3.1 * (i + 1))
    _check_vms(recorder, rng)
    burst("vm_health/baseline", 6, [("HEALTH", name) for name, *_ in VMS], lambda i: 26.0 * (i + 1))
    return recorder.results()


def _sustain(recorder: Recorder, rng: np.random.Generator, chat: Callable[[int], float]) -> None:
    recorder.begin("chat/sustained", 50, t0_ns=START)
    recorder.add_started(603)
    for i, at_s in enumerate(np.sort(rng.uniform(0.2, 15.0, 600)).tolist()):
        recorder.tick(START + int(at_s * SECOND))
        if i % 120 == 7:
            recorder.add("POST", "/api/chat", 30.0 + i / 100, ConnectionResetError(104, "Connection reset by peer"))
        elif i == 60:
            recorder.add("POST", "/api/chat", 812.5, 'HTTP 503: {"detail": "<b>model</b> is busy"}')
        elif i == 61:
            recorder.add("POST", "/api/chat", float("nan"), None)
        elif i % 3 == 0:
            recorder.add("POST", "/api/chat/stream", chat(i % 4) + 90.0, None)
            recorder.add_metric("time_to_first_token", 1e3 * (40.0 + rng.lognormal(1.0, 0.5)), "/api/chat/stream")
            for _ in range(12):
                recorder.add_metric("inter_token_latency", 1e3 * rng.lognormal(2.0, 0.3), "/api/chat/stream")
        else:
            recorder.add("POST", "/api/chat", chat(i % 4), None)
    for age_ms in (40.0, 120.0, 190.0):
        recorder.add_abandoned("POST", "/api/chat", age_ms * 1e3)
    recorder.end()


def _check_vms(recorder: Recorder, rng: np.random.Generator) -> None:
    recorder.begin("vm_health/burst", len(VMS), t0_ns=START)
    recorder.add_started(len(VMS))
    for name, *_ in VMS:
        latency_ms = 20.0 + float(rng.lognormal(1.0, 0.3))
        recorder.tick(START + int(latency_ms * MS))
        recorder.add("HEALTH", name, latency_ms, ConnectionRefusedError(111, "refused") if name == "NPU" else None)
    recorder.end()


def _of(phases: dict[str, PhaseResult], scenario: str) -> list[PhaseResult]:
    return [p for name, p in phases.items() if name.startswith(f"{scenario}/") and not name.endswith("/baseline")]


def _place(phases: list[PhaseResult]) -> None:
    """Have each phase begin half a second after the one before, the first as much after the watch began."""
    begun_ns = START
    for phase in phases:
        phase.begun_ns = begun_ns + SECOND // 2
        begun_ns = phase.begun_ns + phase.wall_ns


def _p95_ratio(numerator: PhaseResult, denominator: PhaseResult, kind: str) -> float:
    above, below = (
        next(endpoint.ok.histogram.quantile(0.95) for key, endpoint in phase.endpoints.items() if key[0] == kind)
        for phase in (numerator, denominator)
    )
    assert above is not None
    assert below is not None
    return above / below


def _chat(phases: dict[str, PhaseResult], mode: str) -> dict[str, Any]:
    _place(_of(phases, "chat"))
    return build_metric(
        "chat",
        "50 Concurrent Chat Requests (HTTP)",
        phases["chat/burst"],
        _of(phases, "chat"),
        Baseline(phases["chat/baseline"], "one blocking server"),
        concurrency=50,
        extra={"degradation": _p95_ratio(phases["chat/burst"], phases["chat/few"], "POST")},
        event_loops=[
            _loop("generator", 0.0031),
            _loop("generator hub", 0.0068, limit_s=0.25),
            _loop("target", 0.204 if mode == "blocking" else 0.0042),
            _loop("target (outside)", 0.201 if mode == "blocking" else 0.0055, witness="outside"),
        ],
        start_skew_s={"chat/burst": 0.0031},
        watched_from_ns=START,
    )


def _redis(phases: dict[str, PhaseResult]) -> dict[str, Any]:
    return build_metric(
        "redis",
        "100 Concurrent Redis Operations",
        phases["redis/burst"],
        _of(phases, "redis"),
        Baseline(phases["redis/baseline"], "one after another"),
        concurrency=100,
        event_loops=[_loop("generator", 0.0064)],
        start_skew_s={"redis/burst": 0.0012},
    )


def _mixed(phases: dict[str, PhaseResult]) -> dict[str, Any]:
    mix = phases["mixed/burst"]
    return build_metric(
        "mixed",
        "Mixed File I/O + Redis Operations",
        mix,
        _of(phases, "mixed"),
        Baseline(phases["mixed/baseline"], "one after another"),
        concurrency=50,
        extra={
            "redis_interference": _p95_ratio(mix, phases["mixed/redis_alone"], "REDIS"),
            "file_interference": _p95_ratio(mix, phases["mixed/files_alone"], "FILE"),
        },
        event_loops=[_loop("generator", 0.0082)],
        start_skew_s={"mixed/burst": 0.0044},
    )


def _vm_health(phases: dict[str, PhaseResult]) -> dict[str, Any]:
    vms = [
        {
            "name": name,
            "kind": kind,
            "url": url,
            "state": "down" if name == "NPU" else "up",
            "latency": None if name == "NPU" else 0.0231,
            "error": "ConnectionRefusedError: [Errno 111] refused" if name == "NPU" else None,
            "start_offset": 0.0004 * i,
        }
        for i, (name, kind, url) in enumerate(VMS)
    ]
    return build_metric(
        "vm_health",
        "Cross-VM Concurrent Requests",
        phases["vm_health/burst"],
        _of(phases, "vm_health"),
        Baseline(phases["vm_health/baseline"], "one after another"),
        concurrency=len(VMS),
        extra={"reachable": 5 / 6, "beyond_slowest": 0.0012},
        event_loops=[_loop("generator", 0.0021)],
        vms=vms,
        start_skew_s={"vm_health/burst": 0.002},
    )


def _loop(name: str, max_stall_s: float, *, witness: str = "inside", limit_s: float = 0.010) -> dict[str, Any]:
    blocked = max_stall_s > limit_s
    stalls = 49 if blocked else 0
    none = {"stalls": 0, "blocked_s": 0.0, "max_stall": 0.0}
    culprit = {
        "file": "demo/app.py",
        "line": 88,
        "function": "answer",
        "call": "time.sleep(model_time_s)",
        "task": "POST /api/chat",
        "cause": "loop",
        "count": stalls,
        "total_s": stalls * max_stall_s,
        "longest_s": max_stall_s,
        "excerpt": [[87, "    if blocking:"], [88, "        time.sleep(model_time_s)"], [89, "    return reply"]],
    }
    return {
        "name": name,
        "process": "4711",
        "witness": witness,
        "watched_s": 25.4,
        "period_s": 0.005,
        "limit_s": limit_s,
        "max_stall": max_stall_s,
        "stalls": stalls,
        "blocked_s": stalls * max_stall_s,
        "blocked": blocked,
        "lag": {"p50": 0.0004, "p99": max_stall_s * 0.8, "max": max_stall_s},
        "by_cause": {
            "loop": {"stalls": stalls, "blocked_s": stalls * max_stall_s, "max_stall": max_stall_s if blocked else 0.0},
            "gil": none,
            "gc": none,
            "machine": none,
        },
        "culprits": [culprit] if blocked and witness == "inside" else [],
        "series": [{"t": t, "max_lag": max_stall_s * (0.3 + 0.7 * (t % 5 == 3))} for t in range(25)],
        "stall_times": [{"t": 0.3 + 0.25 * i, "length": max_stall_s, "cause": "loop"} for i in range(stalls)],
        "note": "",
    }


def _criteria(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_scenario = {metric["scenario"]: metric for metric in metrics}
    chat, vms = by_scenario["chat"], by_scenario["vm_health"]
    target_stall = next(loop["max_stall"] for loop in chat["event_loops"] if loop["name"] == "target")
    limits = [
        ("chat", "total_time", "< 5 s", chat["total_time"], 5.0, False),
        ("chat", "p95", "< 2 s", chat["p95_latency"], 2.0, False),
        ("chat", "error_rate", "< 1 %", chat["error_rate"], 0.01, False),
        ("chat", "max_stall", "< 10 ms", target_stall, 0.010, False),
        ("chat", "speedup", ">= 10x", chat["baseline"]["speedup"], 10.0, True),
        ("redis", "p95", "< 2 s", by_scenario["redis"]["p95_latency"], 2.0, False),
        ("redis", "total_time", "< 2 s", by_scenario["redis"]["total_time"], 2.0, False),
        ("mixed", "redis_interference", "< 3x", by_scenario["mixed"]["extra"]["redis_interference"], 3.0, False),
        ("vm_health", "reachable", ">= 50 %", vms["extra"]["reachable"], 0.5, True),
    ]
    judged = [
        {
            "name": f"{scenario} {metric} {limit}",
            "scenario": scenario,
            "limit": limit,
            "observed": f"{observed:.3g}",
            "observed_value": observed,
            "verdict": "pass" if (observed >= bound if at_least else observed < bound) else "fail",
            "why": f"{metric} was {observed:.3g}, the limit is {limit}",
        }
        for scenario, metric, limit, observed, bound, at_least in limits
    ]
    unasked = {"limit": ">= 1x", "observed": "-", "observed_value": None, "verdict": "not evaluated"}
    return [
        *judged,
        {"name": "mixed speedup >= 1x", "scenario": "mixed", **unasked, "why": "shown beside its ceiling, not gated"},
    ]


def _run(seed: int, mode: str) -> dict[str, Any]:
    return {
        "id": "a4c1e9d2",
        "kind": "suite",
        "seed": seed,
        "command": "locust -f locustfiles/suite.py --headless",
        "started": "2026-01-31T12:00:00Z",
        "ended": "2026-01-31T12:00:41Z",
        "duration_s": 41.2,
        "status": "complete",
        "status_reasons": [],
        "target": {"host": "http://127.0.0.1:40001", "embedded": True, "mode": mode},
        "settings": {"seed": seed, "chat.users": 50, "redis.url": "redis://***@127.0.0.1:40004/0"},
        "versions": {"asyncload": "1.0.0", "locust": "2.47.0", "gevent": "26.9.0", "redis": "8.1.0", "numpy": "2.4.6"},
        "host": {"name": "load-1", "os": "Linux 6.8", "load_average": [0.4, 0.3, 0.2]},
        "python": "3.11.7",
        "cpu_count": 2,
        "loop": "uvloop",
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "simulated": {"model_time": 0.2, "network_delay": 0.005},
    }


def _generator(valid: bool) -> dict[str, Any]:
    return {
        "valid": valid,
        "reasons": [] if valid else ["process 4711 used 98 % of a CPU (limit 90 %)"],
        "processes": [
            {
                "process": "4711",
                "cpu_percent_max": 41.0 if valid else 98.0,
                "hub_lag_p99": 0.0068,
                "loop_lag_p99": 0.0031,
                "send_delay_p99": 0.0022,
                "limits": {"cpu_percent_max": 90.0, "hub_lag_p99": 0.25, "loop_lag_p99": 0.05, "send_delay_p99": 0.1},
            }
        ],
    }


def _worker(phases: dict[str, PhaseResult]) -> dict[str, Any]:
    measured = [phase for name, phase in phases.items() if not name.endswith("/baseline")]
    operations = sum(phase.ok_count + phase.failed_count for phase in measured)
    return {
        "id": "local",
        "host": "load-1",
        "pid": 4711,
        "state": "done",
        "lost_at": None,
        "operations": operations,
        "requests_per_second": operations / sum(phase.total_time_s or 0.0 for phase in measured),
        "p95_latency": 0.214,
        "cpu_percent_max": 41.0,
        "loop_lag_p99": 0.0031,
        "hub_lag_p99": 0.0068,
        "last_report_age": 0.4,
        "version": "1.0.0",
        "settings_fingerprint": "5f2c9a10",
        "clock_offset_s": 0.0,
        "note": "",
    }
