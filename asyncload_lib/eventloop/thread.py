"""One asyncio loop in one real OS thread per Locust process, and the way back to the gevent hub.

`import locust` patches threads into greenlets; a loop on such a thread stalls (blocking calls of `asyncio.to_thread`
run inline) or hangs. So the loop, its thread and its pool are made from CPython's originals, after the fork of
`--processes`, and ended with the run. Users are coroutines on this loop; what Locust must hear is handed to the hub in
batches.
"""

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import gevent
import gevent.event
import gevent.lock
import uvloop

from asyncload_lib.eventloop.native import native, start_native_thread

__all__ = ["LoopThread"]

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""With CPython's 5 ms a busy hub makes a healthy loop in the other thread look blocked (lag p99 22 against 1.5 ms)."""

BATCH_S = 0.02
"""How long the hub lets reports gather before it takes them: fewer switches between the two threads."""

Callback = Callable[..., object]


class NativePool:
    """OS threads for `loop.run_in_executor`; grows on demand to `size`, ends with `close()`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._loop = loop
        self._size = size
        self._jobs: Any = native("queue", "SimpleQueue")()
        self._idle = 0
        self._threads = 0
        self._ended: asyncio.Event | None = None

    def submit(self, function: Callback, *args: object) -> asyncio.Future[Any]:
        """Run `function(*args)` in a thread; call on the loop. The future carries its result or exception."""
        future = self._loop.create_future()
        if self._idle == 0 and self._threads < self._size:
            self._threads += 1
            start_native_thread(self._work)
        else:
            self._idle -= 1
        self._jobs.put((future, function, args))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function, args = job
            try:
                result, error = function(*args), None
            except BaseException as exception:  # it belongs to whoever awaits the future
                result, error = None, exception
            self._tell(self._deliver, future, result, error)
            del job, future, function, args, result, error
        self._tell(self._thread_ended)

    def _tell(self, function: Callback, *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            if not self._loop.is_closed():  # a job that outlived the run has nobody left to tell
                raise

    def _deliver(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        self._idle += 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _thread_ended(self) -> None:
        self._threads -= 1
        if self._threads == 0 and self._ended is not None:
            self._ended.set()

    async def close(self, timeout_s: float) -> None:
        """Let every thread finish its job and end; after `timeout_s` those that still work are left to themselves."""
        self._ended = asyncio.Event()
        for _ in range(self._threads):
            self._jobs.put(None)
        if self._threads:
            try:
                await asyncio.wait_for(self._ended.wait(), timeout_s)
            except TimeoutError:
                sys.stderr.write(f"asyncload: {self._threads} pool thread(s) still working after {timeout_s:g} s\n")


class _Loop(uvloop.Loop):
    """A uvloop loop whose default executor is a pool of OS threads, whatever gevent made of `threading`."""

    pool: NativePool

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        if executor is None:
            return self.pool.submit(func, *args)
        return super().run_in_executor(executor, func, *args)


class LoopThread:
    """The one owner of the loop, its thread, its pool and their end.

    All methods are for the hub's thread unless they say otherwise. `start()` first; `close()` ends everything.
    """

    POOL_SIZE = 32

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self.native_id: int = 0
        self._pid = 0
        self._reports: deque[tuple[Callback, tuple[Any, ...]]] = deque()
        self._signalled = False
        self._draining = gevent.lock.RLock()
        self._wake: Any = None
        self._drainer: Any = None
        self._gathered = gevent.event.Event()
        self._after_batch: list[Callable[[], None]] = []
        self.resources: dict[Any, Any] = {}
        """What users share on this loop, such as connection pools; each has an async `close()` or `aclose()`."""

    # -- life ----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the loop runs in this very process (a fork leaves it behind)."""
        return self._pid == os.getpid()

    def start(self) -> None:
        """Start the thread and return when its loop runs."""
        if self.running:
            return
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._reports.clear()
        self.resources.clear()  # after a fork they are the parent's
        self._signalled = False
        self._gathered = gevent.event.Event()
        self._wake = gevent.get_hub().loop.async_()
        self._wake.start(self._gathered.set)
        self._drainer = gevent.spawn(self._drain_forever)
        loop = _Loop()
        loop.pool = NativePool(loop, self.POOL_SIZE)
        self.loop = loop
        started = gevent.event.Event()
        start_native_thread(lambda: self._run(loop))
        self._pid = os.getpid()
        self.post(self.to_hub, started.set)
        started.wait()

    def _run(self, loop: _Loop) -> None:
        self.native_id = native("threading", "get_ident")()
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def close(self, timeout_s: float = 5.0) -> None:
        """Cancel what still runs, end the pool, the loop and its thread; idempotent."""
        if not self.running:
            return
        self.call(self._shut_down(timeout_s))
        self._pid = 0
        self.loop.call_soon_threadsafe(self.loop.stop)
        while not self.loop.is_closed():  # the thread's last act; it takes under a millisecond
            gevent.sleep(0.001)
        self.flush()
        self._drainer.kill(block=False)
        self._wake.stop()
        self._wake.close()

    async def _shut_down(self, timeout_s: float) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=timeout_s)
        for resource in self.resources.values():
            await (resource.aclose() if hasattr(resource, "aclose") else resource.close())
        self.resources.clear()
        await self.loop.shutdown_asyncgens()
        await self.loop.pool.close(timeout_s)  # type: ignore[attr-defined]

    # -- hub to loop ---------------------------------------------------------------------------------------------

    def post(self, function: Callback, *args: object) -> None:
        """Have the loop call `function(*args)` soon; from any thread."""
        self.loop.call_soon_threadsafe(function, *args)

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop and park this greenlet until it is done; its exception is raised here."""
        if not self.running:
            coroutine.close()
            raise RuntimeError("the loop thread is not running")
        if native("threading", "get_ident")() == self.native_id:
            coroutine.close()
            raise RuntimeError("call() cannot be used from the loop's own thread")
        done: gevent.event.AsyncResult = gevent.event.AsyncResult()

        async def run() -> None:
            try:
                result = await coroutine
            except BaseException as error:
                self.to_hub(done.set_exception, error)
            else:
                self.to_hub(done.set, result)

        self.post(lambda: self.loop.create_task(run()))
        return done.get()

    # -- loop to hub ---------------------------------------------------------------------------------------------

    def to_hub(self, function: Callback, *args: object) -> None:
        """Have the hub call `function(*args)` with its next batch, in the order of these calls; from any thread."""
        self._reports.append((function, args))
        if not self._signalled:
            self._signalled = True
            self._wake.send()

    def after_batch(self, function: Callable[[], None]) -> None:
        """Call `function()` on the hub after every batch."""
        self._after_batch.append(function)

    def flush(self) -> None:
        """Take now what the loop has reported so far; when it returns, every listener has seen it."""
        with self._draining:
            reports = self._reports
            for _ in range(len(reports)):
                function, args = reports.popleft()
                try:
                    function(*args)
                except Exception:
                    # One listener's mistake must not end the only way back to the hub.
                    logger.exception("a report from the event loop could not be handled")
            for listener in self._after_batch:
                listener()

    def _drain_forever(self) -> None:
        while True:
            self._gathered.wait()
            self._gathered.clear()
            # Cleared before the batch is taken: what comes later signals again, so nothing waits unseen.
            self._signalled = False
            self.flush()
            gevent.sleep(BATCH_S)
