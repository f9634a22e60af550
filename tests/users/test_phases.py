"""The users of the suite: one part each, at the instant of release, with a place that counts over all."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis
from locust import User
from locust.user.task import LOCUST_STATE_STOPPING

from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users import baseline, phases
from asyncload_lib.users.base import AsyncUser, loop_thread
from asyncload_lib.users.gate import gate
from asyncload_lib.users.redis import RedisUser
from asyncload_lib.vm_list import Vm
from tests.users.swarm import Swarm, derived, eventually

DEFAULT = Settings()


class Counts:
    """What the gate says."""

    waiting = done = 0

    def __init__(self) -> None:
        loop_thread().post(gate.reset)
        gate.on_change = self._note
        gate.on_release = lambda at_ns: None

    def _note(self, waiting: int, done: int) -> None:
        self.waiting, self.done = waiting, done


def concrete(base: type[User], demo: DemoStack, **attributes: Any) -> type[User]:
    target = Target(redis_url=demo.redis_url, vms=tuple(Vm(**vm) for vm in demo.vms))
    return derived(base, host=demo.host, target=target, **attributes)


def play(user_class: type[User], count: int, *, base: int = 100, finish: bool = False) -> Swarm:
    """Gather `count` users, release them, and wait until all are counted out; `base`: of another worker's users."""
    counts = Counts()
    with Swarm(user_class) as swarm:
        swarm.start(count)
        eventually(lambda: counts.waiting == count)
        assert swarm.requests == []
        loop_thread().post(gate.release, base, time.perf_counter_ns() + 10_000_000)
        if finish:
            eventually(lambda: len(swarm.requests) > 3 * count)
            loop_thread().post(gate.finish)
        eventually(lambda: counts.done == count)
        eventually(lambda: swarm.runner.user_count == 0)
    assert swarm.failures == []
    assert swarm.errors == []
    return swarm


@pytest.mark.chance
@pytest.mark.parametrize(
    ("base", "name", "count"),
    [
        (phases.ChatBurstUser, "/api/chat", 50),
        (phases.RedisOperationUser, "set+get", 100),
        (phases.FileOperationUser, "write+read", 25),
    ],
)
def test_each_does_its_part_once_and_latency_counts_from_the_release(
    base: type[User], name: str, count: int, demo: DemoStack
) -> None:
    swarm = play(concrete(base, demo), count)
    assert [event["name"] for event in swarm.requests] == [name] * count
    delays_us = [values[0] for metric, values in swarm.metrics if metric == "send_delay"]
    assert len(delays_us) == count
    assert max(delays_us) < 250_000


def test_each_machine_is_checked_by_one_user(demo: DemoStack) -> None:
    swarm = play(concrete(phases.VmCheckUser, demo), 6, base=0)
    assert sorted(event["name"] for event in swarm.requests) == sorted(vm["name"] for vm in demo.vms)


def test_conversations_go_on_until_the_phase_is_finished(demo: DemoStack) -> None:
    settings = replace(DEFAULT, chat=replace(DEFAULT.chat, think_median=0.02))
    swarm = play(concrete(phases.ChatSustainedUser, demo, settings=settings), 10, finish=True)
    assert len(swarm.requests) > 30
    assert demo.ledger()["chat"]["answered"] == len(swarm.requests)


def test_the_place_settles_what_is_said(demo: DemoStack) -> None:
    said: list[dict[int, str]] = []
    for _ in range(2):
        one: dict[int, str] = {}

        class Noting(phases.ChatBurstUser):
            abstract = True
            heard = one

            def take_place(self, ordinal: int) -> None:
                super().take_place(ordinal)
                if ordinal >= 100:
                    self.ordinal = ordinal

            def _body(self) -> dict[str, str]:
                body = super()._body()
                self.heard[self.ordinal] = body["message"]
                return body

        play(concrete(Noting, demo), 10)
        said.append(one)
    assert said[0] == said[1]
    assert sorted(said[0]) == list(range(100, 110))


def test_the_place_settles_the_values_and_the_baseline_writes_the_same(
    demo: DemoStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.Redis.from_url(demo.redis_direct_url)
    settings = replace(DEFAULT, redis=replace(DEFAULT.redis, operations=10, key_prefix="mine:"))
    monkeypatch.setattr(AsyncUser, "settings", settings)
    monkeypatch.setattr(AsyncUser, "target", Target(redis_url=demo.redis_url))

    def value_of(key: bytes) -> bytes:
        value = client.get(key)
        assert isinstance(value, bytes)
        return value

    def written() -> dict[bytes, bytes]:
        keys = list(client.scan_iter("mine:*"))
        values = {key: value_of(key) for key in keys}
        client.delete(*keys)
        return values

    found = []
    for base in (phases.RedisOperationUser, phases.RedisOperationUser, baseline.RedisBaselineUser):
        count = 1 if base is baseline.RedisBaselineUser else 10
        play(concrete(base, demo), count, base=0)
        found.append(written())
    client.close()
    assert [len(values) for values in found] == [10, 10, 10]
    assert len({key for values in found for key in values}) == 30
    assert sorted(found[0].values()) == sorted(found[1].values()) == sorted(found[2].values())
    assert len(set(found[0].values())) == 10


def test_whoever_is_stopped_at_the_gate_gives_its_connection_back(demo: DemoStack) -> None:
    settings = replace(DEFAULT, redis=replace(DEFAULT.redis, max_connections=10))
    user_class = concrete(phases.RedisOperationUser, demo, settings=settings)
    counts = Counts()
    with Swarm(user_class) as swarm:
        swarm.start(10)
        eventually(lambda: counts.waiting == 10)
        user = swarm.users[0]
        assert isinstance(user, RedisUser)
        pool = user.pool
        eventually(lambda: len(pool._in_use_connections) == 10)
        swarm.stop()
        assert len(pool._in_use_connections) == 0
    play(user_class, 10)


def test_a_pool_that_is_warm_makes_no_connection_at_the_release(demo: DemoStack) -> None:
    client = redis.Redis.from_url(demo.redis_direct_url)
    counts = Counts()
    with Swarm(concrete(phases.RedisOperationUser, demo)) as swarm:
        swarm.start(30)
        eventually(lambda: counts.waiting == 30)
        before = client.info("stats")["total_connections_received"]
        loop_thread().post(gate.release, 0, time.perf_counter_ns())
        eventually(lambda: counts.done == 30)
        assert client.info("stats")["total_connections_received"] == before
    client.close()


def test_files_of_a_phase_are_gone_with_the_loop(demo: DemoStack, tmp_path: Path) -> None:
    loop_thread().close()
    settings = replace(DEFAULT, files=replace(DEFAULT.files, directory=tmp_path))
    play(concrete(phases.FileOperationUser, demo, settings=settings), 25)
    loop_thread().close()
    assert list(tmp_path.iterdir()) == []


class Begun:
    """Mixed into a user of a phase: whether the user had been stopped when it began each of its operations."""

    begun: ClassVar[list[bool]]

    async def turn(self, intended_ns: int | None = None) -> None:
        self.begun.append(self._stop_requested)  # type: ignore[attr-defined]
        await super().turn(intended_ns)  # type: ignore[misc]

    @contextmanager
    def measured(self, request_type: str, name: str) -> Iterator[None]:
        self.begun.append(self._state == LOCUST_STATE_STOPPING)  # type: ignore[attr-defined]
        with super().measured(request_type, name):  # type: ignore[misc]
            yield


MANY = replace(
    DEFAULT, chat=replace(DEFAULT.chat, think_median=0.02), redis=replace(DEFAULT.redis, operations=1_000_000)
)


@pytest.mark.parametrize("base", [phases.ChatSustainedUser, baseline.RedisBaselineUser])
def test_who_is_stopped_in_a_phase_ends_its_operation_and_begins_no_other(
    base: type[User], demo: DemoStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(AsyncUser, "settings", MANY)
    monkeypatch.setattr(AsyncUser, "target", Target(redis_url=demo.redis_url))
    counts = Counts()
    with Swarm(derived(base, Begun, host=demo.host, begun=[])) as swarm:
        swarm.start(1)
        eventually(lambda: counts.waiting == 1)
        begun: list[bool] = swarm.users[0].begun  # type: ignore[attr-defined]
        loop_thread().post(gate.release, 0, time.perf_counter_ns())
        eventually(lambda: len(begun) > 3)
        swarm.stop()
    assert not any(begun)
    eventually(lambda: counts.done == 1)
    assert swarm.abandoned == []
    assert "Not all users finished" not in caplog.text


@pytest.mark.parametrize("base", [phases.ChatSustainedUser, phases.ChatBurstUser, baseline.RedisBaselineUser])
def test_who_is_stopped_at_the_gate_is_gone_at_once(
    base: type[User], demo: DemoStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(AsyncUser, "target", Target(redis_url=demo.redis_url))  # a baseline has that of the run
    counts = Counts()
    with Swarm(concrete(base, demo)) as swarm:
        swarm.start(3)
        eventually(lambda: counts.waiting == 3)
        swarm.stop()
    assert swarm.started == 0
    assert "Not all users finished" not in caplog.text


def test_who_fails_in_its_part_does_it_no_second_time(demo: DemoStack) -> None:
    class Failing(phases.ChatBurstUser):
        abstract = True
        parts: ClassVar[list[int]] = []

        async def perform(self, ordinal: int, at_ns: int) -> None:
            self.parts.append(ordinal)
            raise LookupError("no part")

    counts = Counts()
    with Swarm(concrete(Failing, demo)) as swarm:
        swarm.start(3)
        eventually(lambda: counts.waiting == 3)
        loop_thread().post(gate.release, 0, time.perf_counter_ns())
        eventually(lambda: counts.done == 3)
        eventually(lambda: swarm.runner.user_count == 0)
    assert sorted(Failing.parts) == [0, 1, 2]
    assert len(swarm.errors) == 3
