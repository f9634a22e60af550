"""What a request costs, in bytecode instructions of this package: the same number on a busy machine and on an idle one.

A bound stands about a third above what CPython 3.11 executes today. Who exceeds one has made every request of every
load test slower, and either finds the reason or moves the bound knowingly, with the figure of `make bench` beside it.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from locust import constant, task
from locust.env import Environment

import asyncload_lib
from asyncload_lib.eventloop.lag import LoopMonitor
from asyncload_lib.run.health import ProcessHealth
from asyncload_lib.run.participant import Participant
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users.base import AsyncUser, loop_thread
from asyncload_lib.users.http import AsyncHttpUser
from asyncload_lib.users.http11 import Connection

PACKAGE = str(Path(asyncload_lib.__file__).parent)
REPEATS = 200
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\nContent-Length: 16\r\n"
    b'Connection: keep-alive\r\n\r\n{"success":true}'
)

INSTRUCTIONS_PER_ITERATION = 245
INSTRUCTIONS_PER_HTTP_REQUEST = 1200
INSTRUCTIONS_ON_THE_HUB = 135
INSTRUCTIONS_OF_THE_RECORDER = 78
ATTRIBUTES_OF_A_MONITOR = 29
"""CPython 3.11 finds up to 29 attributes of an instance by their place; with one more each look-up takes half as long
again, and a beat has dozens."""
BLOCKS_LEFT_BEHIND = 0.2
"""Of memory, per request: what a buffer that grows now and then leaves."""


class Meter:
    """Counts the bytecode instructions that this thread executes in the package's own functions."""

    def __init__(self) -> None:
        self.count = 0

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._count

    def _count(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        self.count += event == "opcode"
        return self._count

    def __enter__(self) -> "Meter":
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


class Reports:
    """Stands for the loop thread of a user: takes what is reported, and hands nothing over."""

    behind = False

    def __init__(self) -> None:
        self.taken: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.monitor = LoopMonitor()
        self.monitor.pulse.quiet_ns = sys.maxsize  # as in most steps beside a monitor that runs: nothing to tell it

    def to_hub(self, function: Callable[..., object], *args: object) -> None:
        self.taken.append((function, args))


class Wire:
    """A transport whose server answers before `write` returns."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def write(self, data: bytes) -> None:
        self.connection.data_received(ANSWER)

    def abort(self) -> None: ...


class Person(AsyncUser):
    wait_time = constant(0)

    @task
    async def work(self) -> None:
        async with self.measure("X", "y"):
            pass


class Visitor(AsyncHttpUser):
    host = "http://target.test"
    wait_time = constant(0)

    @task
    async def work(self) -> None:
        await self.client.post("/chat", json={"message": "hello"})


def made(user_class: type[AsyncUser]) -> tuple[Any, Reports]:
    """Return a user that reports to a list; its real loop thread is not involved."""
    user, reports = user_class(Environment(user_classes=[user_class])), Reports()
    user.loop_thread = reports  # type: ignore[assignment]
    return user, reports


async def wired(user: Any) -> None:
    """Give the user a connection to nobody, who answers at once."""
    idle = user.client._direct.idle["target.test", 80]
    user.client._direct.loop = asyncio.get_running_loop()
    connection = Connection(idle)
    connection.connection_made(Wire(connection))  # type: ignore[arg-type]
    idle.append(connection)


async def repeated(action: Callable[[], Awaitable[object]], times: int) -> None:
    for _ in range(times):
        await action()


with Meter():  # CPython 3.12 and 3.13 count instructions from the second trace on
    Settings().origin("seed")


async def instructions(action: Callable[[], Awaitable[object]]) -> float:
    """Return the instructions of one `action`, once everything is warm."""
    await repeated(action, 5)
    with Meter() as meter:
        await repeated(action, REPEATS)
    return meter.count / REPEATS


def test_the_meter_counts_the_package_and_nothing_else() -> None:
    reports: Any = Reports()
    with Meter() as meter:
        sum(range(1000))
        reports.to_hub(print)
    assert meter.count == 0
    with Meter() as meter:
        Settings().origin("seed")
    assert 3 < meter.count < 100


def test_an_iteration_of_a_user() -> None:
    user, reports = made(Person)

    async def iteration() -> None:
        await user.work()
        await user.wait()

    count = asyncio.run(instructions(iteration))
    assert len(reports.taken) == REPEATS + 5
    assert 0 < count <= INSTRUCTIONS_PER_ITERATION


def test_an_http_request() -> None:
    user, reports = made(Visitor)

    async def requests() -> float:
        await wired(user)
        return await instructions(user.work)

    count = asyncio.run(requests())
    events = [args[0] for _, args in reports.taken]
    assert len(events) == REPEATS + 5
    assert all(event["exception"] is None and event["response"].json() == {"success": True} for event in events)
    assert 0 < count <= INSTRUCTIONS_PER_HTTP_REQUEST


@pytest.fixture
def participant() -> Any:
    environment = Environment(user_classes=[Person])
    environment.create_local_runner()
    made = Participant(environment, Settings(), Target(), ProcessHealth(loop_thread(), Settings()))
    yield made
    made.close()


def event(number: int) -> dict[str, Any]:
    return {
        "request_type": "POST", "name": f"/endpoint/{number % 10}", "response_time": 1.5 + number % 7,
        "response_length": 100, "exception": None, "context": {}, "start_time": 0.0, "url": None, "response": None,
        "ended_ns": time.perf_counter_ns(),
    }  # fmt: skip


def test_a_request_on_the_hub(participant: Participant) -> None:
    """From the loop's report to Locust's listeners and the recorder."""
    user, thread = Person(participant.environment), loop_thread()
    for number in range(REPEATS):
        thread._reports.append((user.fire_request, (event(number), None)))
    thread.flush()
    for number in range(REPEATS):
        thread._reports.append((user.fire_request, (event(number), None)))
    before = participant.recorder.results()["run"].ok_count
    with Meter() as meter:
        thread.flush()
    assert participant.recorder.results()["run"].ok_count == before + REPEATS
    assert 0 < meter.count / REPEATS <= INSTRUCTIONS_ON_THE_HUB


def test_a_request_in_the_recorder(participant: Participant) -> None:
    events = [event(number) for number in range(REPEATS)]
    for one in events:
        participant.recorder.on_request(**one)
    with Meter() as meter:
        for one in events:
            participant.recorder.on_request(**one)
    assert 0 < meter.count / REPEATS <= INSTRUCTIONS_OF_THE_RECORDER


def test_a_request_leaves_nothing_behind(participant: Participant) -> None:
    user, reports = made(Visitor)

    def drained() -> None:
        for _, (reported, _) in reports.taken:
            participant.recorder.on_request(**reported)
        reports.taken.clear()
        participant.recorder.fold()
        gc.collect()

    async def growth(times: int) -> int:
        await wired(user)
        await repeated(user.work, times)
        drained()
        before = sys.getallocatedblocks()
        await repeated(user.work, times)
        drained()
        return sys.getallocatedblocks() - before

    assert asyncio.run(growth(2000)) / 2000 <= BLOCKS_LEFT_BEHIND


def test_a_monitor_has_no_more_attributes_than_are_found_by_their_place() -> None:
    async def watch() -> int:
        async with LoopMonitor() as monitor:
            await asyncio.sleep(0.01)
            return len(vars(monitor))

    assert asyncio.run(watch()) <= ATTRIBUTES_OF_A_MONITOR
