"""Baselines do the operations of their scenario one after another, and count them like the scenario does."""

import contextlib
import itertools
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
import redis
from gevent.pywsgi import WSGIServer
from locust import User, constant, task
from locust.exception import StopUser

from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users import baseline
from asyncload_lib.users.base import AsyncUser, loop_thread
from asyncload_lib.users.baseline import VmBaselineUser
from asyncload_lib.users.gate import gate
from asyncload_lib.users.measure import tally
from asyncload_lib.users.vms import VmHealthUser
from asyncload_lib.vm_list import Vm
from tests.certificate import self_signed
from tests.users.swarm import Swarm, derived, eventually

DEFAULT = Settings()


@pytest.fixture
def settled(demo: DemoStack, monkeypatch: pytest.MonkeyPatch) -> DemoStack:
    """The run's settings and addresses, which baselines take from where all users have theirs."""
    settings = replace(
        DEFAULT,
        redis=replace(DEFAULT.redis, operations=20),
        files=replace(DEFAULT.files, operations=6),
        mixed=replace(DEFAULT.mixed, redis_operations=7),
        vm_health=replace(DEFAULT.vm_health, timeout=0.5),
    )
    monkeypatch.setattr(AsyncUser, "settings", settings)
    target = Target(redis_url=demo.redis_url, vms=tuple(Vm(**vm) for vm in demo.vms))
    monkeypatch.setattr(AsyncUser, "target", target)
    return demo


def play(
    base: type[User],
    before_release: Callable[[], object] = lambda: None,
    listeners: Sequence[Callable[..., object]] = (),
) -> Swarm:
    counts: list[tuple[int, int]] = [(0, 0)]
    loop_thread().post(gate.reset)
    gate.on_change = lambda waiting, done: counts.append((waiting, done))
    gate.on_release = lambda at_ns: None
    with Swarm(derived(base)) as swarm:
        for listener in listeners:
            swarm.events.request.add_listener(listener)
        swarm.start()
        eventually(lambda: counts[-1] == (1, 0))
        assert swarm.requests == []
        before_release()
        loop_thread().post(gate.release, 0, time.perf_counter_ns())
        eventually(lambda: counts[-1] == (1, 1))
        eventually(lambda: swarm.runner.user_count == 0)
    return swarm


def redis_commands(demo: DemoStack) -> dict[str, int]:
    commands: dict[str, int] = demo.ledger()["redis"]["commands"]
    return {name: count for name, count in commands.items() if count}


def test_the_blocking_check_of_a_redis_is_the_work_of_the_async_one(settled: DemoStack) -> None:
    class Person(VmHealthUser):
        wait_time = constant(1000)  # one round

    settled.reset_ledger()
    play(VmBaselineUser)
    blocking = redis_commands(settled)
    settled.reset_ledger()
    with Swarm(Person) as swarm:
        swarm.start()
        eventually(lambda: len(swarm.requests) == len(settled.vms))

    assert redis_commands(settled) == blocking
    assert blocking["ping"] == 1
    assert len(swarm.requests) == len(settled.vms)


def spans(swarm: Swarm) -> list[tuple[float, float]]:
    return [(event["ended_ns"] / 1e6 - event["response_time"], event["ended_ns"] / 1e6) for event in swarm.requests]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (baseline.RedisBaselineUser, {"set+get": 20}),
        (baseline.MixedBaselineUser, {"write+read": 6, "set+get": 7}),
    ],
)
def test_one_pass_one_after_another(base: type[User], expected: dict[str, int], settled: DemoStack) -> None:
    swarm = play(base)
    names = [event["name"] for event in swarm.requests]
    assert {name: names.count(name) for name in names} == expected
    assert swarm.failures == []
    order = spans(swarm)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(order))


def test_between_two_files_others_have_their_turn(settled: DemoStack) -> None:
    """What waits for the last of many files is heard of too late: a stop, and this process's signs of life."""
    begun, seen = tally.started, set[int]()

    def look() -> None:
        while True:
            seen.add(tally.started - begun)
            gevent.sleep(0)

    looking: list[gevent.Greenlet] = []
    play(baseline.MixedBaselineUser, before_release=lambda: looking.append(gevent.spawn(look)))
    looking[0].kill()
    assert {1, 2, 3, 4, 5, 6} <= seen


def test_no_listener_is_part_of_the_chain(settled: DemoStack) -> None:
    """Its time would count for the baseline alone: those of async requests are called beside the loop."""
    heard_ns: list[int] = []
    swarm = play(baseline.RedisBaselineUser, listeners=[lambda **_: heard_ns.append(time.perf_counter_ns())])
    assert len(heard_ns) == 20
    assert min(heard_ns) > max(event["ended_ns"] for event in swarm.requests)
    starts = [event["start_time"] for event in swarm.requests]
    assert starts == sorted(set(starts))


def test_a_listener_that_stops_the_user_hides_no_request_from_those_behind_it(settled: DemoStack) -> None:
    heard: list[str] = []

    def steer(**_: Any) -> None:
        raise StopUser

    swarm = play(baseline.RedisBaselineUser, listeners=[steer, lambda name, **_: heard.append(name)])
    assert len(heard) == len(swarm.requests) == 20


@pytest.mark.parametrize(("base", "operations"), [(baseline.RedisBaselineUser, 20), (baseline.MixedBaselineUser, 7)])
def test_nothing_but_operations_reaches_redis_after_the_release(
    base: type[User], operations: int, settled: DemoStack
) -> None:
    """Users of the async pool connect before it, too."""
    connections: list[int] = []
    with redis.Redis.from_url(settled.redis_direct_url) as watcher:

        def count() -> None:
            connections.append(watcher.info("stats")["total_connections_received"])

        def begin() -> None:
            count()
            settled.reset_ledger()

        swarm = play(base, before_release=begin)
        count()
    commands = redis_commands(settled)

    assert {name: commands.get(name, 0) for name in ("set", "get", "ping", "hello")} == {
        "set": operations, "get": operations, "ping": 0, "hello": 0,
    }  # fmt: skip
    assert connections[1] == connections[0] + 1  # that of the reset
    assert swarm.failures == []


def test_a_baseline_lets_go_of_its_connection(settled: DemoStack) -> None:
    with redis.Redis.from_url(settled.redis_direct_url) as watcher:

        def connected() -> int:
            clients: int = watcher.info("clients")["connected_clients"]
            return clients

        before, within = connected(), []
        play(baseline.RedisBaselineUser, before_release=lambda: within.append(connected()))
        assert within == [before + 1]
        eventually(lambda: connected() == before)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_machines_with_tls_do_not_have_the_certificates_of_the_system_read(
    settled: DemoStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The async check reads none either."""
    read: list[object] = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: read.append(1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"up"]

    with contextlib.ExitStack() as stack:
        server = WSGIServer(("127.0.0.1", 0), application, ssl_context=context, log=None)
        server.start()
        stack.callback(server.stop)
        vms = (Vm("one", "http", f"https://127.0.0.1:{server.server_port}/"),)
        monkeypatch.setattr(AsyncUser, "target", Target(vms=vms))
        swarm = play(baseline.VmBaselineUser)

    assert ([event["name"] for event in swarm.requests], swarm.failures) == (["one"], [])
    assert read == []


def test_machines_are_asked_in_turn_and_their_states_are_told_apart(
    settled: DemoStack, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vms = (
        *AsyncUser.target.vms,
        Vm("ill", "http", f"{target}/status/503"),
        Vm("hanging", "http", f"{target}/hang"),
        Vm("refusing", "redis", "redis://127.0.0.1:1/0"),
    )
    monkeypatch.setattr(AsyncUser, "target", Target(vms=vms))
    swarm = play(baseline.VmBaselineUser)
    assert [event["name"] for event in swarm.requests] == [vm.name for vm in vms]
    kinds = [type(event["exception"]).__name__ for event in swarm.requests]
    assert kinds == ["NoneType"] * 6 + ["HttpStatusError", "AnswerTimeoutError", "ConnectionError"]


def test_a_machine_is_judged_as_by_the_async_check_and_no_word_of_its_url_is_told(
    settled: DemoStack, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "canary-7f3a"
    paths = ("/redirect/302/1", "/redirect/302/40", "/status/404", "/close", "/hang", "/half", "/half_hang", "/flood")
    urls = [
        *(f"{target}{path}?token={secret}" for path in paths),
        f"http://127.0.0.1:1/?token={secret}",
        f"http://user:{secret}@127.0.0.1:1/",
    ]
    vms = tuple(Vm(f"vm{number}", "http", url) for number, url in enumerate(urls))
    monkeypatch.setattr(AsyncUser, "target", Target(vms=vms))
    blocking = play(baseline.VmBaselineUser)

    class Check(VmHealthUser):
        abstract = True

        @task
        async def once(self) -> None:
            for vm in self.vms:
                await self.check(vm)
            raise StopUser

    Check.tasks = [Check.once]
    with Swarm(derived(Check)) as swarm:
        swarm.run()

    def told(swarm: Swarm) -> list[str]:
        errors = [event["exception"] for event in swarm.requests]
        return [type(TimeoutError() if isinstance(e, TimeoutError) else e).__name__ for e in errors]

    expected = ["NoneType", "NoneType", "HttpStatusError", "ConnectionBrokenError", "TimeoutError"]
    expected += ["ConnectionBrokenError", "TimeoutError", "TimeoutError"]
    expected += ["ConnectionFailedError", "ConnectionFailedError"]
    assert told(blocking) == told(swarm) == expected
    assert blocking.failures[-2].startswith("Connection refused")
    assert [text for text in blocking.failures if secret in text or "127.0.0.1" in text] == []


@pytest.mark.chance
def test_a_redis_that_is_gone_fails_every_operation_with_one_try(
    settled: DemoStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AsyncUser, "target", Target(redis_url="redis://127.0.0.1:1/0"))
    swarm = play(baseline.RedisBaselineUser)
    assert [type(event["exception"]).__name__ for event in swarm.requests] == ["ConnectionError"] * 20
    assert all(event["response_time"] < 500 for event in swarm.requests)


def test_a_pass_that_is_stopped_reports_what_has_ended_and_leaves_its_operation_abandoned(settled: DemoStack) -> None:
    class Slow(baseline.VmBaselineUser):
        abstract = True

        def operations(self) -> Any:
            def take(name: str, seconds: float) -> None:
                with self.measured("X", name):
                    gevent.sleep(seconds)

            yield partial(take, "quick", 0)
            yield partial(take, "slow", 100)

    loop_thread().post(gate.reset)
    done_and_heard: list[tuple[int, int]] = []

    def note(done: int) -> None:
        done_and_heard.append((done, len(swarm.requests)))

    gate.on_change = lambda waiting, done: loop_thread().to_hub(note, done)
    with Swarm(derived(Slow), stop_timeout=0) as swarm:
        swarm.start()
        eventually(lambda: done_and_heard)
        loop_thread().post(gate.release, 0, time.perf_counter_ns())
        eventually(lambda: swarm.started == 2)
        swarm.stop()
        eventually(lambda: len(done_and_heard) == 2)
    assert [event["name"] for event in swarm.requests] == ["quick"]
    assert [event["name"] for event in swarm.abandoned] == ["slow"]
    assert done_and_heard == [(0, 0), (1, 1)]  # before its user is counted out, or it would miss the phase
    assert tally.started == tally.ended


def test_a_pass_that_fails_is_not_made_again(settled: DemoStack) -> None:
    passes: list[int] = []

    class Failing(baseline.RedisBaselineUser):
        abstract = True

        def operations(self) -> Any:
            passes.append(1)
            raise LookupError("no pass")

    swarm = play(Failing)
    assert passes == [1]
    assert len(swarm.errors) == 1
