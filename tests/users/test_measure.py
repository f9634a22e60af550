"""Every operation that was begun has one outcome: ok, failed or abandoned."""

import asyncio
import time
from typing import Any

import gevent
import pytest
from locust import task
from locust.exception import CatchResponseError, StopUser

from asyncload_lib.eventloop.native import native, start_native_thread
from asyncload_lib.users.base import AsyncUser, loop_thread
from asyncload_lib.users.measure import CutOffError, Tally, tally
from tests.users.swarm import Swarm, eventually


class Once(AsyncUser):
    """Does `act` once."""

    abstract = True

    @task
    async def work(self) -> None:
        await self.act()
        raise StopUser

    async def act(self) -> None:
        raise NotImplementedError


@pytest.mark.chance
def test_a_block_is_one_request_with_all_that_locust_knows_of_one() -> None:
    class Person(Once):
        def context(self) -> dict[str, Any]:
            return {"who": "person", "where": "class"}

        async def act(self) -> None:
            async with self.measure("REDIS", "get", context={"where": "call"}) as operation:
                await asyncio.sleep(0.05)
                operation.response_length = 42
                operation.response = "answer"

    begun = time.time()
    with Swarm(Person) as swarm:
        swarm.run()
    (event,) = swarm.requests
    assert (event["request_type"], event["name"], event["response_length"]) == ("REDIS", "get", 42)
    assert event["context"] == {"who": "person", "where": "call"}
    assert event["response"] == "answer"
    assert event["exception"] is None
    assert 50 <= event["response_time"] < 150
    assert begun <= event["start_time"] <= time.time()


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ValueError("bad"), ValueError), (TimeoutError(), TimeoutError), (OSError(28, "No space"), OSError)],
)
def test_an_exception_is_the_failure_and_goes_no_further(error: Exception, kind: type[Exception]) -> None:
    class Person(Once):
        async def act(self) -> None:
            async with self.measure("X", "x"):
                raise error

    with Swarm(Person) as swarm:
        swarm.run()
    assert [type(event["exception"]) for event in swarm.requests] == [kind]
    assert swarm.errors == []


def test_a_block_can_be_failed_by_hand() -> None:
    class Person(Once):
        async def act(self) -> None:
            async with self.measure("X", "x") as operation:
                operation.failure("wrong value")
            async with self.measure("X", "x") as operation:
                operation.failure(KeyError("k"))

    with Swarm(Person) as swarm:
        swarm.run()
    assert [type(event["exception"]) for event in swarm.requests] == [CatchResponseError, KeyError]
    assert swarm.failures[0] == "wrong value"


def test_a_timeout_of_the_tasks_own_is_a_failure_not_a_gap_in_the_figures() -> None:
    class Person(Once):
        async def act(self) -> None:
            try:
                async with asyncio.timeout(0.05), self.measure("X", "x"):
                    await asyncio.sleep(100)
            except TimeoutError:
                pass

    with Swarm(Person) as swarm:
        swarm.run()
    (event,) = swarm.requests
    assert isinstance(event["exception"], CutOffError)
    assert event["response_time"] >= 45
    assert swarm.abandoned == []


def test_siblings_of_a_group_that_fails_are_failures_too() -> None:
    class Person(Once):
        async def act(self) -> None:
            async def one(delay_s: float) -> None:
                async with self.measure("X", "x"):
                    await asyncio.sleep(delay_s)

            async def fail() -> None:
                await asyncio.sleep(0.02)
                raise ValueError

            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(one(0))
                    group.create_task(one(100))
                    group.create_task(fail())
            except ExceptionGroup:
                pass

    with Swarm(Person) as swarm:
        swarm.run()
    assert [type(event["exception"]) for event in swarm.requests] == [type(None), CutOffError]


def test_work_that_outlives_its_user_is_abandoned() -> None:
    class Person(Once):
        async def act(self) -> None:
            async def linger() -> None:
                async with self.measure("X", "x"):
                    await asyncio.sleep(100)

            lingering.append(asyncio.create_task(linger()))
            await asyncio.sleep(0.01)

    lingering: list[asyncio.Task[None]] = []
    with Swarm(Person) as swarm:
        swarm.run()
        loop_thread().post(lingering[0].cancel)
        eventually(lambda: swarm.abandoned)
    assert swarm.requests == []


def test_a_context_that_fails_counts_nothing() -> None:
    class Person(Once):
        def context(self) -> dict[str, Any]:
            raise ValueError("bad context")

        async def act(self) -> None:
            async with self.measure("X", "x"):
                pass

    with Swarm(Person) as swarm:
        swarm.start()
        eventually(lambda: swarm.errors)
        swarm.stop()
    assert swarm.started == 0


@pytest.mark.chance
def test_latency_counts_from_the_intended_start() -> None:
    class Person(Once):
        async def act(self) -> None:
            async with self.measure("X", "x", intended_ns=time.perf_counter_ns() - 200_000_000):
                await asyncio.sleep(0.05)

    with Swarm(Person) as swarm:
        swarm.run()
    metrics = {name: values[0] / 1e3 for name, values in swarm.metrics}
    assert metrics["send_delay"] == pytest.approx(200, abs=20)
    assert metrics["service_time"] == pytest.approx(50, abs=20)
    assert swarm.requests[0]["response_time"] == pytest.approx(
        metrics["send_delay"] + metrics["service_time"], abs=0.001
    )


def test_the_own_time_of_what_failed_is_kept_apart() -> None:
    class Person(Once):
        async def act(self) -> None:
            for outcome in ("ok", "failed"):
                async with self.measure("X", outcome, intended_ns=time.perf_counter_ns()) as operation:
                    if outcome == "failed":
                        operation.failure("refused")

    with Swarm(Person) as swarm:
        swarm.run()
    assert [name for name, _ in swarm.metrics] == ["service_time", "send_delay", "failed_service_time", "send_delay"]


def test_figures_of_a_request_are_no_requests() -> None:
    class Person(Once):
        async def act(self) -> None:
            async with self.measure("X", "x") as operation:
                operation.metric("gap", [1.0, 2.0])

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.metrics == [("gap", [1.0, 2.0])]
    assert len(swarm.requests) == 1


def test_two_threads_lose_no_count() -> None:
    counted = Tally()
    ended: list[int] = []

    def count() -> None:
        for _ in range(300_000):
            counted.started += 1
        ended.append(1)

    for _ in range(3):
        start_native_thread(count)
    while len(ended) < 3:
        native("time", "sleep")(0.005)
    assert counted.started == 900_000


def test_random_stops_leave_nothing_without_an_outcome() -> None:
    class Person(AsyncUser):
        @task
        async def work(self) -> None:
            async with self.measure("X", "outer"):
                await asyncio.sleep(0)
                async with self.measure("X", "inner"):
                    await asyncio.to_thread(native("time", "sleep"), 0.001)

    with Swarm(Person, stop_timeout=0) as swarm:
        for _ in range(10):
            swarm.start(20)
            gevent.sleep(0.03)
            swarm.stop()
            assert swarm.started == len(swarm.requests) + len(swarm.abandoned)
            assert tally.started == tally.ended
    assert swarm.abandoned
    assert swarm.requests
