"""The loop beside the hub: real threads, nothing lost between the two, nothing left when it ends."""

import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gevent
import gevent.monkey
import pytest

from asyncload_lib.eventloop.native import native
from asyncload_lib.eventloop.thread import LoopThread

pytestmark = pytest.mark.chance

sleep_for_real = native("time", "sleep")
thread_id = native("threading", "get_ident")


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    loop_thread = LoopThread()
    loop_thread.start()
    yield loop_thread
    loop_thread.close()


def os_threads() -> set[str]:
    """The threads of this process, by number; the HTTP client keeps one for the life of the process."""
    names = {path.name: (path / "comm").read_text() for path in Path("/proc/self/task").iterdir()}
    return {number for number, name in names.items() if "pyreqwest" not in name}


def open_files() -> dict[str, str]:
    return {path.name: os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists()}


def waited(condition: Any, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        gevent.sleep(0.005)
    return True


# -- real threads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sleep", [sleep_for_real, time.sleep], ids=["real sleep", "patched sleep"])
@pytest.mark.parametrize("how", ["to_thread", "run_in_executor", "own executor"])
def test_blocking_calls_run_side_by_side_and_the_loop_goes_on(thread: LoopThread, sleep: Any, how: str) -> None:
    idents: set[int] = set()
    own = ThreadPoolExecutor(8)

    def block() -> None:
        idents.add(thread_id())
        sleep(0.2)

    async def measure() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        begun = time.perf_counter()
        longest = 0.0
        work: list[Awaitable[None]]
        if how == "to_thread":
            work = [asyncio.to_thread(block) for _ in range(8)]
        else:
            work = [loop.run_in_executor(own if how == "own executor" else None, block) for _ in range(8)]
        together = asyncio.gather(*work)
        while not together.done():
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before)
        return time.perf_counter() - begun, longest

    took_s, longest_s = thread.call(measure())
    assert took_s < 0.8  # one after another: 1.6
    assert longest_s < 0.15
    assert len(idents) == 8
    assert thread.native_id not in idents


def test_an_executor_of_its_own_keeps_its_number_of_threads(thread: LoopThread) -> None:
    own = ThreadPoolExecutor(2)
    idents: set[int] = set()

    def block() -> None:
        idents.add(thread_id())
        sleep_for_real(0.01)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(own, block) for _ in range(10)))

    thread.call(run())
    assert len(idents) == 2


def test_more_jobs_than_threads_are_all_done(thread: LoopThread) -> None:
    async def run() -> list[int]:
        return list(await asyncio.gather(*(asyncio.to_thread(int, n) for n in range(500))))

    before = os_threads()
    assert thread.call(run()) == list(range(500))
    assert len(os_threads() - before) <= LoopThread.POOL_SIZE


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), StopIteration(1)])
def test_what_a_thread_raises_reaches_who_awaits_it(thread: LoopThread, error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def run() -> str:
        try:
            await asyncio.to_thread(fail)
        except BaseException as caught:
            return type(caught).__name__
        return "nothing"

    expected = "RuntimeError" if isinstance(error, StopIteration) else type(error).__name__
    assert thread.call(run(), timeout_s=5) == expected


def test_who_no_longer_waits_for_a_thread_is_free_at_once(thread: LoopThread) -> None:
    done: list[int] = []

    def block() -> None:
        sleep_for_real(0.3)
        done.append(1)

    async def run() -> float:
        begun = time.perf_counter()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(block), 0.05)
        took_s = time.perf_counter() - begun
        await asyncio.to_thread(lambda: None)  # the pool still works
        return took_s

    assert thread.call(run()) < 0.25
    assert waited(lambda: done)


def test_a_pool_of_processes_is_refused_with_a_sentence(thread: LoopThread) -> None:
    executor = ProcessPoolExecutor(1)

    async def run() -> None:
        await asyncio.get_running_loop().run_in_executor(executor, os.getpid)

    with pytest.raises(TypeError, match="a ProcessPoolExecutor cannot work beside Locust; pass None or"):
        thread.call(run())


# -- to the hub and back ----------------------------------------------------------------------------------------------


def test_call_brings_results_and_exceptions(thread: LoopThread) -> None:
    async def give(value: object) -> object:
        await asyncio.sleep(0)
        if isinstance(value, BaseException):
            raise value
        return value

    assert thread.call(give(42)) == 42
    with pytest.raises(KeyError, match="gone"):
        thread.call(give(KeyError("gone")))
    with pytest.raises(TimeoutError):
        thread.call(asyncio.sleep(100), timeout_s=0.05)


def test_nobody_waits_again_for_a_loop_that_is_known_to_be_blocked(thread: LoopThread) -> None:
    held = native("_thread", "allocate_lock")()
    held.acquire()
    thread.post(held.acquire)
    with pytest.raises(TimeoutError):
        thread.call(asyncio.sleep(0), timeout_s=0.1)
    begun: list[int] = []

    async def begin() -> None:
        begun.append(1)

    with gevent.Timeout(30):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                thread.call(begin(), timeout_s=1000)
    assert begun == []
    held.release()
    thread.call(asyncio.sleep(0))  # who sets no limit waits
    assert begun == [1, 1, 1], "what was asked for is done once the loop goes on"

    with pytest.raises(TimeoutError):
        thread.call(asyncio.sleep(100), timeout_s=0.05)
    thread.call(asyncio.sleep(0.1), timeout_s=30)  # nothing blocks the loop: that call just took long


def test_misuse_of_call_is_told_in_a_sentence(thread: LoopThread) -> None:
    async def call_again() -> None:
        thread.call(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match=r"^call\(\) cannot be used from the loop's own thread; await the coroutine"):
        thread.call(call_again())
    with pytest.raises(RuntimeError, match="the loop thread is not running"):
        LoopThread().call(asyncio.sleep(0))


def test_reports_arrive_on_the_hub_complete_and_in_order(thread: LoopThread) -> None:
    heard: list[tuple[int, int]] = []

    async def report() -> None:
        for number in range(20_000):
            thread.to_hub(lambda n: heard.append((n, thread_id())), number)
            if number % 1000 == 0:
                await asyncio.sleep(0)

    thread.call(report())
    thread.flush()
    assert [number for number, _ in heard] == list(range(20_000))
    assert {ident for _, ident in heard} == {thread_id()}


def test_reports_arrive_by_themselves_and_soon(thread: LoopThread) -> None:
    heard: list[float] = []
    thread.post(lambda: thread.to_hub(lambda: heard.append(time.perf_counter())))
    begun = time.perf_counter()
    assert waited(lambda: heard)
    assert heard[0] - begun < 1


def let_a_timeout_out() -> None:
    with gevent.Timeout(0.01):
        gevent.sleep(100)


@pytest.mark.parametrize("fail", [lambda: 1 / 0, let_a_timeout_out], ids=["an exception", "a gevent.Timeout"])
def test_a_listener_that_fails_does_not_end_the_way_back(
    thread: LoopThread, caplog: pytest.LogCaptureFixture, fail: Any
) -> None:
    heard: list[int] = []
    thread.to_hub(fail)
    thread.to_hub(heard.append, 1)
    assert waited(lambda: heard == [1])
    assert "a report from the event loop could not be handled" in caplog.text


def test_what_fails_ahead_of_the_reports_or_behind_a_batch_keeps_nothing_back(thread: LoopThread) -> None:
    heard: list[str] = []

    def fail() -> None:
        raise ValueError

    def report() -> None:
        thread.to_hub_at_once(fail)
        thread.to_hub_at_once(heard.append, "urgent")
        thread.to_hub(heard.append, "report")

    thread.after_batch(fail)
    thread.post(report)
    assert waited(lambda: heard == ["urgent", "report"])
    thread.to_hub(heard.append, "next batch")
    assert waited(lambda: heard[2:] == ["next batch"])


def test_a_listener_that_waits_holds_up_reports_but_not_calls(thread: LoopThread) -> None:
    heard: list[str] = []

    def wait() -> None:
        heard.append(thread.call(asyncio.sleep(0, "called")))
        thread.flush()  # within a flush: takes the rest
        heard.append("flushed")

    thread.to_hub(wait)
    thread.to_hub(heard.append, "second")
    thread.to_hub(gevent.sleep, 0.5)
    assert waited(lambda: "second" in heard)
    assert not thread.flush(timeout_s=0.05)
    assert thread.call(asyncio.sleep(0, "in between")) == "in between"
    assert waited(lambda: len(heard) == 3)
    assert heard == ["called", "second", "flushed"]


def test_a_listener_that_hangs_holds_up_no_end(thread: LoopThread, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []
    hung = gevent.event.Event()
    thread.to_hub(hung.wait)
    thread.to_hub(heard.append, 1)
    assert not thread.flush_within(0.1)
    assert heard == []
    with gevent.Timeout(30):
        thread.close(timeout_s=0.1)
    assert "a listener holds up what the event loop has reported" in caplog.text
    hung.set()


def test_both_threads_log_at_the_same_time(thread: LoopThread, tmp_path: Path) -> None:
    logger = logging.getLogger("both")
    handler = logging.FileHandler(tmp_path / "log")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    count = 6_000  # without a hand-over it hangs within the first few thousand

    async def log_on_the_loop() -> None:
        for number in range(count):
            logger.info("loop %d", number)
            if number % 50 == 0:
                await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(logger.info, "thread %d", number))

    def log_on_the_hub() -> None:
        for number in range(count):
            logger.info("hub %d", number)
            if number % 50 == 0:
                gevent.sleep(0)

    greenlet = gevent.spawn(log_on_the_hub)
    try:
        thread.call(log_on_the_loop(), timeout_s=30)
        greenlet.join(30)
        assert greenlet.successful()
        thread.flush()
    finally:
        logger.removeHandler(handler)
        handler.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2 * count + count // 50
    assert [line for line in lines if line.startswith("loop")] == [f"loop {n}" for n in range(count)]


# -- the end ----------------------------------------------------------------------------------------------------------


def use_everything(thread: LoopThread) -> None:
    class Resource:
        async def close(self) -> None:
            closed.append(1)

    closed: list[int] = []

    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            except asyncio.CancelledError:
                pass
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        kept.append(asyncio.create_task(asyncio.sleep(1000)))
        await asyncio.gather(*(asyncio.to_thread(sleep_for_real, 0.01) for _ in range(8)))
        writer.close()
        server.close()
        thread.resources["resource"] = Resource()

    kept: list[Any] = []
    thread.call(work())
    thread.close()
    assert closed == [1]
    assert kept[0].cancelled()


def test_nothing_is_left_after_close_and_it_starts_again() -> None:
    thread = LoopThread()
    thread.start()
    use_everything(thread)  # what the process keeps for good is made now
    gc.collect()
    threads, files = os_threads(), open_files()
    for _ in range(3):
        thread.start()
        assert thread.running
        use_everything(thread)
        assert not thread.running
    gc.collect()
    assert waited(lambda: os_threads() <= threads)
    assert waited(lambda: len(open_files()) == len(files)), (files, open_files())
    thread.close()  # again: does nothing


def test_a_resource_that_cannot_be_closed_keeps_nobody_else_from_it(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    class Good:
        async def aclose(self) -> None:
            closed.append("good")

    class Bad:
        async def close(self) -> None:
            raise OSError("stuck")

    class Slow:
        async def close(self) -> None:
            await asyncio.sleep(100)

    thread = LoopThread()
    thread.start()
    thread.resources.update(bad=Bad(), slow=Slow(), good=Good())
    thread.close(timeout_s=0.3)
    assert closed == ["good"]
    assert "could not be closed" in caplog.text


def test_jobs_end_before_what_they_use_is_closed() -> None:
    order: list[str] = []

    class Resource:
        async def close(self) -> None:
            order.append("closed")

    def job() -> None:
        sleep_for_real(0.1)
        order.append("job")

    async def begin() -> None:
        kept.append(asyncio.create_task(asyncio.to_thread(job)))
        await asyncio.sleep(0.01)

    kept: list[Any] = []
    thread = LoopThread()
    thread.start()
    thread.resources["resource"] = Resource()
    thread.call(begin())
    thread.close()
    assert order == ["job", "closed"]


def test_what_will_not_end_is_left_behind(capfd: pytest.CaptureFixture[str]) -> None:
    release = native("_thread", "allocate_lock")()
    release.acquire()

    async def cling() -> None:
        while not release_all:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                pass

    async def begin() -> None:
        kept.append(asyncio.create_task(cling()))
        kept.append(asyncio.create_task(asyncio.to_thread(release.acquire)))
        await asyncio.sleep(0.02)

    kept: list[Any] = []
    release_all: list[int] = []
    thread = LoopThread()
    thread.start()
    thread.call(begin())
    begun = time.monotonic()
    thread.close(timeout_s=0.2)
    assert time.monotonic() - begun < 2
    assert not thread.running
    assert "1 pool thread(s) still working after 0.2 s" in capfd.readouterr().err
    release_all.append(1)
    release.release()


def test_a_blocked_loop_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    thread, held = LoopThread(), native("_thread", "allocate_lock")()
    held.acquire()
    thread.start()
    thread.post(held.acquire)
    with gevent.Timeout(30):
        thread.close(timeout_s=0.1)
    assert "the event loop is blocked and is left behind" in caplog.text
    held.release()  # the loop goes on and ends with the process


def test_a_forked_child_gets_a_loop_of_its_own(thread: LoopThread) -> None:
    assert thread.call(asyncio.sleep(0, "parent")) == "parent"
    child = os.fork()
    if child == 0:  # as with --processes
        code = 1
        try:
            assert not thread.running
            thread.start()
            assert thread.call(asyncio.to_thread(os.getpid), timeout_s=10) == os.getpid()
            thread.close()
            code = 0
        finally:
            os._exit(code)
    with gevent.Timeout(20):
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert thread.call(asyncio.sleep(0, "still there")) == "still there"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_raised_on_the_loop_reaches_the_main_greenlet(thread: LoopThread, error: BaseException) -> None:
    async def leave() -> None:
        raise error

    def begin() -> None:
        kept.append(thread.loop.create_task(leave()))

    kept: list[Any] = []
    thread.post(begin)
    with pytest.raises(type(error)):
        gevent.sleep(5)
    assert kept[0].exception() is error
    assert thread.call(asyncio.sleep(0, "still there")) == "still there"


def test_this_process_is_patched_and_the_switch_interval_short(thread: LoopThread) -> None:
    assert gevent.monkey.is_module_patched("threading")
    assert sys.getswitchinterval() == pytest.approx(0.0005)
