"""What people know of Locust users holds for coroutines."""

import asyncio
import contextlib
import itertools
import re
import statistics
import time
from functools import partial
from typing import Any

import gevent
import pytest
from locust import (
    FastHttpUser,
    HttpUser,
    SequentialTaskSet,
    TaskSet,
    between,
    constant,
    constant_pacing,
    constant_throughput,
    tag,
    task,
)
from locust.exception import (
    InterruptTaskSet,
    RescheduleTask,
    RescheduleTaskImmediately,
    StopTest,
    StopUser,
)
from locust.user.task import filter_tasks_by_tags

from asyncload_lib.eventloop.native import native
from asyncload_lib.users.base import AsyncUser, loop_thread
from asyncload_lib.users.http import AsyncHttpUser
from asyncload_lib.users.measure import CutOffError
from tests.users.swarm import Swarm, eventually


def test_start_tasks_and_stop_run_on_the_loop_in_order() -> None:
    seen: list[tuple[str, int]] = []

    def note(what: str) -> None:
        seen.append((what, native("threading", "get_ident")()))

    class Person(AsyncUser):
        async def on_start(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0.01)
            note("start")

        async def on_stop(self) -> None:
            await asyncio.sleep(0.01)
            note("stop")

        @task
        async def work(self) -> None:
            note("task")
            if len(seen) == 3:
                raise StopUser

    with Swarm(Person) as swarm:
        swarm.run()
    assert [what for what, _ in seen] == ["start", "task", "task", "stop"]
    assert {ident for _, ident in seen} == {loop_thread().native_id}
    assert swarm.errors == []


def test_tasks_are_drawn_by_weight_and_tags() -> None:
    done: list[str] = []

    class Person(AsyncUser):
        @task(3)
        async def often(self) -> None:
            done.append("often")
            if len(done) >= 2000:
                raise StopUser

        @task
        async def seldom(self) -> None:
            done.append("seldom")

        @tag("slow")
        @task(5)
        async def tagged(self) -> None:
            done.append("tagged")

    filter_tasks_by_tags(Person, exclude_tags={"slow"})  # what --exclude-tags does
    with Swarm(Person) as swarm:
        swarm.run()
    assert "tagged" not in done
    assert 0.68 < done.count("often") / len(done) < 0.82  # 0.75 with a standard error of 0.01


def test_classes_are_spawned_by_weight_and_fixed_count() -> None:
    class Person(AsyncUser):
        abstract = True

        @task
        async def idle(self) -> None:
            await asyncio.sleep(0.01)

    class Heavy(Person):
        weight = 3

    class Light(Person):
        weight = 1

    class Single(Person):
        fixed_count = 1

    with Swarm(Heavy, Light, Single) as swarm:
        swarm.start(9)
        assert swarm.runner.user_classes_count == {"Heavy": 6, "Light": 2, "Single": 1}


@pytest.mark.chance
@pytest.mark.parametrize(
    ("wait_time", "gap_s"),
    [
        (constant(0.05), 0.07),
        (between(0.05, 0.05), 0.07),
        (constant_pacing(0.05), 0.05),
        (constant_throughput(20), 0.05),
    ],
    ids=["constant", "between", "pacing", "throughput"],
)
def test_wait_time_functions_keep_their_rate(wait_time: Any, gap_s: float) -> None:
    starts: list[float] = []

    class Person(AsyncUser):
        async def on_start(self) -> None:  # type: ignore[override]
            type(self).wait_time = wait_time

        @task
        async def work(self) -> None:
            starts.append(time.perf_counter())
            await asyncio.sleep(0.02)
            if len(starts) == 21:
                raise StopUser

    with Swarm(Person) as swarm:
        swarm.run()
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert statistics.median(gaps_s) == pytest.approx(gap_s, rel=0.12)


@pytest.mark.chance
def test_a_task_may_finish_within_the_stop_timeout() -> None:
    done: list[str] = []

    class Person(AsyncUser):
        async def on_stop(self) -> None:
            done.append("stop")

        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                await asyncio.sleep(0.4)
            done.append("task")

    with Swarm(Person, stop_timeout=5) as swarm:
        swarm.start()
        eventually(lambda: swarm.started == 1)
        assert 0.2 < swarm.stop() < 2
    assert done == ["task", "stop"]
    assert len(swarm.requests) == 1
    assert swarm.abandoned == []


@pytest.mark.chance
def test_a_wait_is_cut_at_once() -> None:
    stopped: list[int] = []

    class Person(AsyncUser):
        wait_time = constant(100)

        async def on_stop(self) -> None:
            stopped.append(1)

        @task
        async def work(self) -> None:
            pass

    with Swarm(Person, stop_timeout=5) as swarm:
        swarm.start(10)
        gevent.sleep(0.1)
        assert swarm.stop() < 1
    assert len(stopped) == 10


@pytest.mark.chance
@pytest.mark.parametrize("stop_timeout", [0, 0.2])
def test_what_is_cut_off_is_abandoned_and_on_stop_still_runs(stop_timeout: float) -> None:
    stopped: list[int] = []

    class Person(AsyncUser):
        async def on_stop(self) -> None:
            async with self.measure("X", "goodbye"):
                await asyncio.sleep(0.01)
            stopped.append(1)

        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                await asyncio.sleep(100)

    with Swarm(Person, stop_timeout=stop_timeout) as swarm:
        swarm.start(3)
        gevent.sleep(0.1)
        assert swarm.stop() < stop_timeout + 1
    assert len(stopped) == 3
    assert [event["name"] for event in swarm.abandoned] == ["work"] * 3
    assert all(0.09e6 < event["age_us"] < 2e6 for event in swarm.abandoned)
    assert [event["name"] for event in swarm.requests] == ["goodbye"] * 3


def test_a_timeout_of_its_own_has_failed_in_on_stop_too() -> None:
    class Person(AsyncUser):
        async def on_stop(self) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05), self.measure("X", "goodbye"):
                    await asyncio.sleep(100)

        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                await asyncio.sleep(100)

    with Swarm(Person, stop_timeout=0) as swarm:
        swarm.start()
        eventually(lambda: swarm.started == 1)
        swarm.stop()
    assert [event["name"] for event in swarm.abandoned] == ["work"]
    (goodbye,) = swarm.requests
    assert isinstance(goodbye["exception"], CutOffError)


def test_what_a_task_of_the_users_own_has_in_flight_at_a_stop_is_abandoned() -> None:
    """Whoever cancels it then, and whatever it asked for and never came to."""
    errors: list[object] = []

    class Person(AsyncHttpUser):
        host = "http://127.0.0.1:1"

        async def on_start(self) -> None:  # type: ignore[override]
            self.beside = asyncio.create_task(self.poll())

        async def poll(self) -> None:
            async with self.measure("X", "poll"):
                await asyncio.sleep(100)

        async def on_stop(self) -> None:
            self.beside.cancel()
            await asyncio.wait([self.beside])

        @task
        async def work(self) -> None:
            prepared = [self.client.get("/"), self.client.get("/")]
            async with self.measure("X", "work"):
                await asyncio.sleep(100)
            for request in prepared:
                await request

    with Swarm(Person, stop_timeout=0) as swarm:
        swarm.environment.events.user_error.add_listener(lambda exception, **_: errors.append(exception))
        swarm.start()
        eventually(lambda: swarm.started == 2)
        swarm.stop()
    assert sorted(event["name"] for event in swarm.abandoned) == ["poll", "work"]
    assert (swarm.requests, errors) == ([], [])


@pytest.mark.chance
def test_a_user_that_was_told_twice_and_takes_its_time_in_on_stop_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncload_lib.users.base.SECOND_STOP_LIMIT_S", 0.2)
    errors: list[object] = []
    over = native("threading", "Event")()

    class Person(AsyncUser):
        STOP_LIMIT_S = 0.2

        async def on_stop(self) -> None:
            while not over.is_set():
                await asyncio.sleep(0.01)

        @task
        async def work(self) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(100)

    with Swarm(Person, stop_timeout=0) as swarm:
        swarm.environment.events.user_error.add_listener(lambda exception, **_: errors.append(exception))
        swarm.start()
        gevent.sleep(0.1)
        swarm.stop()
        over.set()
    assert [str(error) for error in errors] == ["it was cancelled twice, and goes on"]


def test_a_second_stop_at_the_same_time_loses_nothing() -> None:
    class Person(AsyncUser):
        async def on_stop(self) -> None:
            await asyncio.sleep(0.1)

        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                await asyncio.sleep(100)

    with Swarm(Person, stop_timeout=0.1) as swarm:
        swarm.start(5)
        eventually(lambda: swarm.started == 5)
        first, second = gevent.spawn(swarm.runner.stop), gevent.spawn(swarm.runner.stop)
        gevent.wait([first, second], count=1)
        assert len(swarm.abandoned) == 5
        gevent.joinall([first, second])


@pytest.mark.chance
def test_a_user_that_clings_to_life_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Person(AsyncUser):
        STOP_LIMIT_S = 0.2

        @task
        async def work(self) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(100)

    with Swarm(Person, stop_timeout=0) as swarm:
        swarm.start()
        gevent.sleep(0.05)
        assert 0.2 <= swarm.stop() < 1
        assert swarm.runner.user_count == 0


@pytest.mark.chance
def test_a_user_that_goes_on_beyond_its_end_is_told_of_and_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncload_lib.users.base.SECOND_STOP_LIMIT_S", 0.2)
    is_over = False

    class Person(AsyncUser):
        STOP_LIMIT_S = 0.2

        @task
        async def work(self) -> None:
            while not is_over:
                try:
                    async with self.measure("X", "work"):
                        await asyncio.sleep(0.01)
                except BaseException:
                    pass

    with Swarm(Person, stop_timeout=0) as swarm:
        swarm.is_complete = False
        swarm.start()
        eventually(lambda: swarm.requests)
        swarm.stop()
        eventually(lambda: swarm.errors)
        loop_thread().flush()
        counted, started = len(swarm.requests), swarm.started
        eventually(lambda: swarm.started > started + 3)
        loop_thread().flush()
        is_over = True
        assert len(swarm.requests) == counted
    assert [str(error) for error in swarm.errors] == ["it was cancelled twice, and goes on"]


@pytest.mark.chance
def test_a_cancellation_that_got_lost_is_made_up_for() -> None:
    class Person(AsyncUser):
        STOP_LIMIT_S = 5

        @task
        async def work(self) -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                pass  # as a client does whose result has just arrived

    with Swarm(Person, stop_timeout=0) as swarm:
        swarm.start()
        gevent.sleep(0.05)
        assert swarm.stop() < 1


def test_stop_user_ends_one_user_and_its_task() -> None:
    class Person(AsyncUser):
        wait_time = constant(100)

        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                raise StopUser

    with Swarm(Person) as swarm:
        swarm.run(3)
    assert [event["exception"] for event in swarm.requests] == [None] * 3
    assert swarm.errors == []


@pytest.mark.parametrize(
    ("steering", "waits"),
    [
        (RescheduleTask, True),
        (InterruptTaskSet(reschedule=False), True),
        (RescheduleTaskImmediately, False),
        (InterruptTaskSet(), False),
    ],
)
def test_rescheduling_ends_the_task_and_no_more(steering: Any, waits: bool) -> None:
    runs: list[int] = []
    waited: list[int] = []

    class Person(AsyncUser):
        def wait_time(self) -> float:
            waited.append(1)
            return 0

        @task
        async def work(self) -> None:
            runs.append(1)
            if len(runs) == 4:
                raise StopUser
            async with self.measure("X", "work"):
                raise steering

    with Swarm(Person) as swarm:
        swarm.run()
    assert len(runs) == 4
    assert len(waited) == (3 if waits else 0)
    assert swarm.errors == []
    assert [event["exception"] for event in swarm.requests] == [None] * 3


def test_stop_test_in_a_task_ends_the_user_as_in_locust() -> None:
    class Person(AsyncUser):
        @task
        async def work(self) -> None:
            raise StopTest("enough")

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.errors == []


def test_exceptions_of_tasks_reach_locusts_exceptions_tab_and_the_user_goes_on() -> None:
    runs: list[int] = []

    class Person(AsyncUser):
        @task
        async def work(self) -> None:
            runs.append(1)
            if len(runs) == 4:
                raise StopUser
            raise ValueError("broken task")

    with Swarm(Person) as swarm:
        swarm.run()
        (row,) = swarm.runner.exceptions.values()
    assert len(runs) == 4
    assert [str(error) for error in swarm.errors] == ["broken task"] * 3
    assert (row["count"], row["msg"]) == (3, "broken task")
    assert "in work" in row["traceback"]


@pytest.mark.parametrize("where", ["task", "wait", "own task"])
def test_a_cancellation_of_somebody_else_is_an_error_and_the_user_goes_on(where: str) -> None:
    """Such as that of a shared login that another user's `asyncio.timeout` has cancelled."""
    runs: list[int] = []

    class Person(AsyncUser):
        def wait_time(self) -> float:
            return 0.01

        @task
        async def work(self) -> None:
            runs.append(1)
            if len(runs) == 3:
                raise StopUser
            if where == "task":
                shared = asyncio.get_running_loop().create_future()
                shared.cancel()
                await shared
            itself = asyncio.current_task()
            assert itself is not None
            if where == "own task":
                itself.cancel()
                await asyncio.sleep(10)
            asyncio.get_running_loop().call_later(0.001, itself.cancel)

    with Swarm(Person) as swarm:
        swarm.run()
    told = ["CutOffError: what it awaited was cancelled, although nobody stopped this user"]
    expected = (1, 1) if where == "wait" else (3, 2)  # in a wait there is nothing to go on with
    assert (len(runs), len(swarm.errors)) == expected
    assert [f"{type(error).__name__}: {error}" for error in swarm.errors] == told * expected[1]


def test_a_cancellation_of_somebody_else_in_on_start_is_an_error() -> None:
    class Person(AsyncUser):
        async def on_start(self) -> None:  # type: ignore[override]
            shared = asyncio.get_running_loop().create_future()
            shared.cancel()
            await shared

        @task
        async def work(self) -> None:
            raise AssertionError

    with Swarm(Person) as swarm:
        swarm.run()
    assert [type(error) for error in swarm.errors] == [CutOffError]


def test_what_is_no_exception_is_told_of_when_it_ends_a_user() -> None:
    class Person(AsyncUser):
        @task
        async def work(self) -> None:
            raise gevent.GreenletExit

    with Swarm(Person) as swarm:
        swarm.run()
    assert [type(error) for error in swarm.errors] == [gevent.GreenletExit]


def test_without_catch_exceptions_the_first_one_ends_the_user() -> None:
    stopped: list[int] = []

    class Person(AsyncUser):
        async def on_stop(self) -> None:
            stopped.append(1)

        @task
        async def work(self) -> None:
            raise ValueError("broken task")

    with Swarm(Person, catch_exceptions=False) as swarm:
        swarm.run()
    assert len(swarm.errors) == 1
    assert stopped == [1]


@pytest.mark.parametrize("where", ["on_start", "on_stop", "wait_time"])
def test_exceptions_around_tasks_are_reported_and_end_the_user(where: str) -> None:
    class Person(AsyncUser):
        @task
        async def work(self) -> None:
            if where == "on_stop":
                raise StopUser

    async def fail(self: AsyncUser) -> None:
        raise ValueError(where)

    def fail_now(self: AsyncUser) -> float:
        raise ValueError(where)

    setattr(Person, where, fail_now if where == "wait_time" else fail)
    with Swarm(Person) as swarm:
        swarm.run()
    assert [str(error) for error in swarm.errors] == [where]


def test_a_user_without_tasks_says_so() -> None:
    class Person(AsyncUser):
        pass

    with Swarm(Person) as swarm:
        swarm.run()
    assert [str(error) for error in swarm.errors] == ["Person has no tasks: mark an `async def` method with @task"]


def test_users_are_added_taken_away_and_started_again() -> None:
    alive = 0

    class Person(AsyncUser):
        wait_time = constant(100)

        async def on_start(self) -> None:  # type: ignore[override]
            nonlocal alive
            alive += 1

        async def on_stop(self) -> None:
            nonlocal alive
            alive -= 1

        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                pass

    def is_steady(count: int) -> bool:
        return alive == count == swarm.runner.user_count

    with Swarm(Person) as swarm:
        for _ in range(3):  # several tests in one process
            for count in (4, 10, 2):  # ramp up and down
                swarm.start(count)
                eventually(partial(is_steady, count))
            swarm.stop()
            assert (alive, swarm.runner.user_count) == (0, 0)
    assert len(swarm.requests) == 30


@pytest.mark.parametrize("steering", [StopUser, StopTest])
def test_a_request_listener_can_stop_the_user_and_everybody_still_counts(steering: type[Exception]) -> None:
    counted: list[str] = []

    class Person(AsyncUser):
        wait_time = constant(0.01)

        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                pass

    def steer(**_: Any) -> None:
        raise steering

    with Swarm(Person) as swarm:
        swarm.events.request.add_listener(steer)
        swarm.events.request.add_listener(lambda name, **_: counted.append(name))
        swarm.run()
    assert len(counted) == len(swarm.requests) >= 1
    assert swarm.environment.stats.total.num_requests == len(swarm.requests)


def test_a_request_listener_that_fails_or_comes_too_late_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Person(AsyncUser):
        wait_time = constant(0.01)

        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                pass

    def fail(**_: Any) -> None:
        raise ValueError("bad listener") if len(swarm.requests) % 2 else RescheduleTask

    with Swarm(Person) as swarm:
        swarm.events.request.add_listener(fail)
        swarm.start()
        eventually(lambda: len(swarm.requests) > 10)
    assert "a listener of the request event failed" in caplog.text
    assert "comes too late" in caplog.text


@pytest.mark.chance
@pytest.mark.parametrize("how", ["listener", "task"])
def test_the_run_can_be_ended_from_a_listener_or_a_task(how: str) -> None:
    class Person(AsyncUser):
        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                await asyncio.sleep(0.01)
            if how == "task":
                self.on_hub(self.environment.runner.quit)

    begun = time.monotonic()
    with Swarm(Person, stop_timeout=5) as swarm:
        if how == "listener":
            swarm.events.request.add_listener(lambda **_: swarm.runner.quit())
        swarm.start(5)
        eventually(lambda: swarm.runner.user_count == 0)
    assert time.monotonic() - begun < 3


def test_users_do_not_outrun_a_hub_that_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncload_lib.eventloop.thread.BACKLOG_LIMIT", 200)

    class Person(AsyncUser):
        @task
        async def work(self) -> None:
            async with self.measure("X", "work"):
                pass

    with Swarm(Person) as swarm:
        swarm.start(10)
        eventually(lambda: swarm.requests)
        native("time", "sleep")(0.3)  # the hub hears nothing meanwhile
        waiting = swarm.started - len(swarm.requests)
        assert 200 <= waiting <= 220
        heard = len(swarm.requests)
        eventually(lambda: len(swarm.requests) > heard + 1000)  # and then they go on


def test_tasks_that_fail_at_once_do_not_outrun_it_either() -> None:
    failed = 0

    class Person(AsyncUser):
        @task
        async def work(self) -> None:
            nonlocal failed
            failed += 1
            raise ValueError("broken task")

    with Swarm(Person) as swarm:
        swarm.start(5)
        eventually(lambda: swarm.errors)
        native("time", "sleep")(0.2)
        assert failed - len(swarm.errors) <= 5
        heard = len(swarm.errors)
        eventually(lambda: len(swarm.errors) > heard + 20)


class Nested(TaskSet):
    @task
    def step(self) -> None: ...


class InOrder(SequentialTaskSet):
    @task
    def step(self) -> None: ...


def plain(_: object) -> None: ...


def plain_hook(_: object) -> None: ...


async def fine(_: object) -> None: ...


@pytest.mark.parametrize(
    ("bases", "body", "sentence"),
    [
        ((), {"tasks": [Nested]}, "Person: Nested is a TaskSet, whose tasks run on greenlets; an AsyncUser takes only"),
        ((), {"tasks": {InOrder: 2}}, "Person: InOrder is a TaskSet"),
        ((), {"inner": task(Nested)}, "Person: Nested is a TaskSet"),
        ((), {"work": task(plain)}, "Person: task plain is a plain function; write `async def plain`"),
        ((), {"tasks": [fine, plain]}, "Person: task plain is a plain function"),
        (
            (),
            {"tasks": [fine], "on_start": plain_hook},
            "Person: on_start is a plain function; write `async def on_start`",
        ),
        ((), {"tasks": [fine], "on_stop": plain_hook}, "Person: on_stop is a plain function"),
        ((HttpUser,), {"tasks": [fine]}, "Person: HttpUser waits on greenlets and would block the loop"),
        ((FastHttpUser,), {"tasks": [fine]}, "Person: FastHttpUser waits on greenlets"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_class_is_defined(
    bases: tuple[type, ...], body: dict[str, Any], sentence: str
) -> None:
    kind: type = type(AsyncUser)
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}") as refusal:
        kind("Person", (AsyncUser, *bases), body)
    assert "\n" not in str(refusal.value)


def test_sys_exit_in_a_task_ends_the_process_as_in_locust() -> None:
    class Person(AsyncUser):
        @task
        async def work(self) -> None:
            raise SystemExit(7)

    with Swarm(Person) as swarm, pytest.raises(SystemExit, match="7"):
        swarm.run()
    assert loop_thread().call(asyncio.sleep(0, "the loop goes on")) == "the loop goes on"
