"""The starting line: released together, numbered, counted out."""

import asyncio
import time

import pytest

from asyncload_lib.users.gate import Gate, Start

pytestmark = pytest.mark.chance


async def arrive(gate: Gate, count: int) -> list[asyncio.Task[Start]]:
    tasks = [asyncio.create_task(gate.enter()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_all_are_released_at_one_instant_in_the_order_of_arrival() -> None:
    async def run() -> None:
        gate = Gate()
        told: list[tuple[int, int]] = []
        released: list[int] = []
        gate.on_change = lambda waiting, done: told.append((waiting, done))
        gate.on_release = released.append
        tasks = await arrive(gate, 50)
        assert told[-1] == (50, 0)
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in tasks)
        at_ns = time.perf_counter_ns() + 50_000_000
        gate.release(100, at_ns)
        starts = await asyncio.gather(*tasks)
        assert [start.ordinal for start in starts] == list(range(100, 150))
        assert {start.at_ns for start in starts} == set(released)
        assert len(released) == 1
        assert at_ns - 2e6 < released[0] <= at_ns < time.perf_counter_ns() + 2e6
        for _ in starts:
            gate.leave()
        assert told[-1] == (50, 50)

    asyncio.run(run())


def test_a_release_to_come_does_not_open_the_next_phase() -> None:
    async def run() -> None:
        gate = Gate()
        gate.release(0, time.perf_counter_ns() + 10_000_000)
        gate.reset()
        (task,) = await arrive(gate, 1)
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()

    asyncio.run(run())


def test_a_release_of_the_past_is_at_once_and_late() -> None:
    async def run() -> None:
        gate = Gate()
        (task,) = await arrive(gate, 1)
        at_ns = time.perf_counter_ns() - 5_000_000_000
        gate.release(0, at_ns)
        assert (await asyncio.wait_for(task, 1)).at_ns == at_ns

    asyncio.run(run())


def test_a_loop_that_opens_the_gate_late_does_not_move_the_instant_of_release() -> None:
    async def run() -> None:
        gate = Gate()
        (task,) = await arrive(gate, 1)
        at_ns = time.perf_counter_ns() + 10_000_000
        gate.release(0, at_ns)
        time.sleep(0.1)
        start = await task
        assert start.at_ns == at_ns
        assert time.perf_counter_ns() - start.at_ns >= 85e6

    asyncio.run(run())


def test_who_comes_late_is_let_through_and_is_late() -> None:
    async def run() -> None:
        gate = Gate()
        (first,) = await arrive(gate, 1)
        gate.release(0, time.perf_counter_ns())
        start = await first
        await asyncio.sleep(0.05)
        late = await asyncio.wait_for(gate.enter(), 1)
        assert late == Start(1, start.at_ns)
        gate.reset()
        (waiting,) = await arrive(gate, 1)
        await asyncio.sleep(0.02)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(run())


def test_who_is_stopped_at_the_gate_does_not_keep_the_others() -> None:
    async def run() -> None:
        gate = Gate()
        tasks = await arrive(gate, 3)
        tasks[1].cancel()
        await asyncio.sleep(0)
        gate.release(0, time.perf_counter_ns())
        assert [(await task).ordinal for task in (tasks[0], tasks[2])] == [0, 2]

    asyncio.run(run())


def test_a_pause_lasts_no_longer_than_the_phase() -> None:
    async def run() -> None:
        gate = Gate()
        begun = time.perf_counter()
        assert await gate.pause(0.05)
        assert await gate.pause(0)
        assert time.perf_counter() - begun >= 0.05
        asyncio.get_running_loop().call_later(0.05, gate.finish)
        begun = time.perf_counter()
        assert not await gate.pause(100)
        assert time.perf_counter() - begun < 2
        assert not await gate.pause(100)
        gate.reset()
        assert await gate.pause(0)

    asyncio.run(run())


def test_a_pause_can_be_cancelled_even_as_it_ends() -> None:
    async def run() -> None:
        gate = Gate()
        task = asyncio.create_task(gate.pause(100))
        await asyncio.sleep(0)
        gate.finish()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
