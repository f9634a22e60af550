"""The grammar of criteria, as a table: what is one, what is none, and what is one about nothing."""

import re

import pytest

from asyncload_lib.errors import ConfigurationError
from asyncload_lib.options import Chat, Redis
from asyncload_lib.results.phase import ABANDONED
from asyncload_lib.run.scenarios import planned
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.verdict.grammar import FREE_PHASES, KNOWN, bind, parse, problems
from asyncload_lib.verdict.metrics import METRICS, REQUEST_METRICS, Subject
from tests.locust_run import ROOT

PARSED = [
    # text                                    subject                              metric  op    value  unit
    ("chat p95 < 2 s", Subject("chat"), "p95", "<", 2.0, "s"),
    ("  chat   p95<2s ", Subject("chat"), "p95", "<", 2.0, "s"),
    ("chat.sustained p95 <= 1500 ms", Subject("chat", "sustained"), "p95", "<=", 1500.0, "ms"),
    ("chat[POST /api/chat] p99.9 < 2.5 s", Subject("chat", None, "POST /api/chat"), "p99.9", "<", 2.5, "s"),
    ("chat.burst[GET /a[1]] avg < .5 s", Subject("chat", "burst", "GET /a[1]"), "avg", "<", 0.5, "s"),
    ("chat error_rate < 1 %", Subject("chat"), "error_rate", "<", 1.0, "%"),
    ("chat error_rate<1%", Subject("chat"), "error_rate", "<", 1.0, "%"),
    ("chat speedup >= 10x", Subject("chat"), "speedup", ">=", 10.0, "x"),
    ("chat speedup > 10", Subject("chat"), "speedup", ">", 10.0, ""),
    ("redis failed_requests = 0", Subject("redis"), "failed_requests", "=", 0.0, ""),
    ("target max_stall < 10 ms", Subject("target"), "max_stall", "<", 10.0, "ms"),
    ("generator cpu < 90 %", Subject("generator"), "cpu", "<", 90.0, "%"),
    ("chat time_to_first_token.p95 < 300 ms", Subject("chat"), "time_to_first_token.p95", "<", 300.0, "ms"),
    ("vm_health reachable >= 50 %", Subject("vm_health"), "reachable", ">=", 50.0, "%"),
]


@pytest.mark.parametrize(("text", "subject", "metric", "operator", "value", "unit"), PARSED, ids=[p[0] for p in PARSED])
def test_parses(text: str, subject: Subject, metric: str, operator: str, value: float, unit: str) -> None:
    criterion = parse(text)
    found = (criterion.subject, criterion.metric, criterion.operator, criterion.value, criterion.unit)
    assert found == (subject, metric, operator, value, unit)
    assert problems([text]) == []
    assert parse(criterion.name) == criterion


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("chat p95<2.50s", "chat p95 < 2.5 s"),
        ("chat speedup>=10 x", "chat speedup >= 10x"),
        ("chat error_rate<1%", "chat error_rate < 1 %"),
        ("chat total_requests > 1000000", "chat total_requests > 1000000"),
    ],
)
def test_name_is_the_same_in_every_output(text: str, name: str) -> None:
    assert parse(text).name == name


@pytest.mark.parametrize(
    "text",
    [
        "", "chat", "chat p95", "chat p95 <", "p95 < 2 s", "chat p95 < s", "chat p95 2 s", "chat p95 == 2 s",
        "chat p95 =< 2 s", "chat p95 != 2 s", "chat p95 < 2 s and more", "chat p95 < -2 s", "chat p95 < nan s",
        "chat p95 < inf s", "chat p95 < 1e3 s", "chat p95 < 2 parsecs", "chat p95 < 2 S", "chat[] p95 < 2 s",
        "chat. p95 < 2 s", "chat p95 < 2,5 s", "chat p95 < " + "9" * 400 + " s", "chat p95 < \uff12 s",
    ],
)  # fmt: skip
def test_other_shapes_are_refused(text: str) -> None:
    (problem,) = problems([text])
    assert "is not a criterion" in problem
    assert "chat p95 < 2 s" in problem


UNBOUND = [
    # text                             what the one sentence must name
    ("chta p95 < 2 s", ["unknown subject chta", "chat, redis, mixed, vm_health"]),
    ("chat p59 < 2 s", ["chat has no metric p59", "did you mean p99", "total_time", "speedup"]),
    ("chat.warmup p95 < 2 s", ["chat has no phase warmup", "few, burst, sustained"]),
    ("chat.burst max_stall < 2 ms", ["chat.burst has no metric max_stall"]),
    ("chat[x] total_time < 2 s", ["chat[x] has no metric total_time"]),
    ("redis degradation < 2x", ["redis has no metric degradation"]),
    ("chat reachable > 50 %", ["chat has no metric reachable"]),
    ("chat cpu < 90 %", ["chat has no metric cpu"]),
    ("target p95 < 2 s", ["target has no metric p95", "max_stall"]),
    ("target.burst max_stall < 2 ms", ["target has neither phases nor endpoints"]),
    ("generator[x] cpu < 90 %", ["generator has neither phases nor endpoints"]),
    ("chat time_to_first_token.p12 < 2 s", ["no metric time_to_first_token.p12", "mean time_to_first_token.p95"]),
    ("chat time_to_frst_token.p99 < 2 s", ["mean time_to_first_token.p99", "service_time.p99", "error_rate"]),
    ("redis time_to_first_token.p95 < 2 s", ["redis has no metric time_to_first_token.p95", "redis_get.p95"]),
    ("files redis_set.p95 < 2 s", ["files has no metric redis_set.p95"]),
    ("chat p95 < 2", ["needs a unit of us, ms, s"]),
    ("chat p95 < 2 %", ["needs a unit of us, ms, s"]),
    ("chat error_rate < 0.01", ["needs a unit of %"]),
    ("chat speedup > 10 s", ["needs a unit of x"]),
    ("chat total_requests > 10 s", ["needs no unit"]),
]


@pytest.mark.parametrize(("text", "named"), UNBOUND, ids=[row[0] for row in UNBOUND])
def test_what_means_nothing_is_refused_before_the_run(text: str, named: list[str]) -> None:
    (problem,) = problems([text])
    assert [word for word in named if word not in problem] == []


@pytest.mark.parametrize(
    ("text", "loop_limit_s", "is_refused"),
    [
        ("target max_stall < 8 ms", 0.010, True),
        ("chat max_stall <= 0 ms", 0.010, True),
        ("chat max_stall > 9999 us", 0.010, True),
        ("generator max_stall < 299 ms", 0.300, True),
        ("generator stalls < 1", 0.200, False),
        ("generator lag_p99 < 8 ms", 0.010, False),
        ("target max_stall < 10 ms", 0.010, False),
        ("target max_stall < 5.1 ms", 0.0051, False),
        ("target max_stall < 8 ms", 0.008, False),
        ("target lag_p99 < 8 ms", 0.010, False),
        ("target stalls < 1", 0.010, False),
    ],
)
def test_a_limit_on_stalls_that_are_not_recorded_is_refused(text: str, loop_limit_s: float, is_refused: bool) -> None:
    found = problems([text], loop_limit_s)
    if is_refused:
        least = f"{loop_limit_s * 1e3:g} ms"
        assert found == [
            f"{parse(text).name}: stalls shorter than loop.limit ({least}) are not recorded; "
            f"allowed is {least} or more, or a shorter loop.limit"
        ]
    else:
        assert found == []


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("generator max_stall < 50 ms", True),
        ("generator max_stall < 0.2 s", False),
        ("generator stalls = 0", True),
        ("generator blocked_time < 1 s", True),
    ],
)
def test_a_limit_on_stalls_of_the_hub_that_are_not_recorded_is_refused(text: str, is_refused: bool) -> None:
    found = problems([text], 0.010)
    if is_refused:
        assert found == [
            f"{parse(text).name}: stalls of the generator's hub shorter than 200 ms are not recorded; "
            "allowed is max_stall of 200 ms or more"
        ]
    else:
        assert found == []


@pytest.mark.parametrize(
    ("texts", "refused"),
    [
        (["chat p95 < 1 s", "redis p95 < 1 s", "chat p95 < 2 s"], ["chat p95 < 2 s"]),
        (["chat p95 < 1 s", "chat p95 <= 900 ms", "chat p95 < 1 s"], ["chat p95 <= 900 ms", "chat p95 < 1 s"]),
        (["chat[GET /a] p95 < 1 s", "chat[GET /a] p95 < 2 s"], ["chat[GET /a] p95 < 2 s"]),
        (["chat p95 < 1 s", "chat p95 > 1 ms"], []),
        (["chat p95 < 1 s", "chat p99 < 1 s", "chat.few p95 < 1 s", "chat[GET /a] p95 < 1 s"], []),
    ],
)
def test_a_metric_has_one_limit_from_each_side(texts: list[str], refused: list[str]) -> None:
    found = problems(texts)
    assert [problem.partition(" conflicts")[0] for problem in found] == refused
    assert all(f" conflicts with {texts[0]}: only one" in problem for problem in found)


def test_bind_lists_all_problems() -> None:
    with pytest.raises(ConfigurationError) as caught:
        bind([parse("chat p59 < 2 s"), parse("chat p95 < 2 s"), parse("foo p95 < 2 x")])
    assert len(caught.value.problems) == 2


def test_bind_names_the_subjects_and_phases_that_there_are() -> None:
    bind([parse("chat.burst p95 < 2 s")])
    with pytest.raises(ConfigurationError, match=r"redis has no phase few; there are burst, baseline, ramp, run$"):
        bind([parse("redis.few p95 < 2 s")])
    with pytest.raises(ConfigurationError, match="unknown subject mix; there are chat, redis, mixed"):
        bind([parse("mix p95 < 2 s")])


def test_names_of_scenarios_are_fixed() -> None:
    for settings in (Settings(), Settings(chat=Chat(users=80, few_users=3), redis=Redis(operations=7))):
        assert [scenario.test_name for scenario in planned(settings, Target())] == [
            "50 Concurrent Chat Requests (HTTP)",
            "100 Concurrent Redis Operations",
            "Mixed File I/O + Redis Operations",
            "Cross-VM Concurrent Requests",
        ]
    assert [scenario.concurrency for scenario in planned(settings, Target())][:2] == [80, 7]


def test_phases_are_those_that_the_suite_runs() -> None:
    target = Target(host="http://127.0.0.1:1", baseline_host="http://127.0.0.1:2", redis_url="redis://127.0.0.1:3")
    for scenario in planned(Settings(), target):
        assert KNOWN[scenario.key] == (*(phase.name for phase in scenario.phases), *FREE_PHASES)


def test_every_promised_metric_can_be_named() -> None:
    promised = (
        "p50 p90 p95 p99 p99.9 avg min max total_time error_rate throughput total_requests failed_requests "
        "abandoned_requests speedup degradation redis_interference file_interference reachable start_skew "
        "beyond_slowest max_stall stalls blocked_time lag_p99"
    )
    assert [name for name in promised.split() if name not in METRICS] == []


def test_users_of_ones_own_may_keep_metrics_of_any_name() -> None:
    assert problems(["run steps_taken.p95 < 1 s"]) == []
    assert problems(["run.ramp[POST /a] steps_taken.count > 3"]) == []
    assert problems(["run time_to_first_token.p95 < 1 s"]) == []
    assert "chat has no metric steps_taken.p95" in problems(["chat steps_taken.p95 < 1 s"])[0]


def test_the_metrics_of_a_request_are_those_that_users_keep() -> None:
    sources = [path.read_text("utf-8") for path in (ROOT / "asyncload_lib" / "users").glob("*.py")]
    kept = {name for source in sources for name in re.findall(r'\.metric\("(\w+)"', source)}
    assert set(REQUEST_METRICS) == {*kept, ABANDONED}
