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

from asyncload_lib.eventloop.lag import LoopMonitor
from asyncload_lib.eventloop.logs import keep_logging_on_this_thread
from asyncload_lib.eventloop.native import native, start_native_thread
from asyncload_lib.eventloop.pool import PoolLoop

__all__ = ["LoopThread"]

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""With CPython's 5 ms a busy hub makes a healthy loop in the other thread look blocked (lag p99 22 against 1.5 ms)."""

BATCH_S = 0.02
"""How long the hub lets reports gather before it takes them: fewer switches between the two threads."""

BACKLOG_LIMIT = 20_000
"""With more reports than this waiting for the hub (a quarter of a second of its work), users pause between tasks."""

AGAIN_S = 0.5
"""How long a call waits for a loop for which another one has waited in vain already."""

NOT_HANDLED = "a report from the event loop could not be handled"

Callback = Callable[..., object]


class LoopThread:
    """The one owner of the loop, its thread, its pools and their end.

    All methods are for the hub's thread unless they say otherwise. `start()` first; `close()` ends everything.
    """

    POOL_SIZE = 32
    """Threads of the loop's default executor."""

    def __init__(self) -> None:
        self.loop: PoolLoop
        self.native_id: int = 0
        self._pid = 0
        self._ending = False
        self._is_blocked = False
        """Whether a call was given up before the loop had even begun it, and the loop has begun none since."""
        self._reports: deque[tuple[Callback, tuple[Any, ...]]] = deque()
        self._urgent: deque[tuple[Callback, tuple[Any, ...]]] = deque()
        self._signalled = False
        self._draining = gevent.lock.RLock()
        self._wake: Any = None
        self._drainer: Any = None
        self._gathered = gevent.event.Event()
        self._after_batch: list[Callable[[], None]] = []
        self.monitor: LoopMonitor | None = None
        """The monitor of this loop, if there is one; users give it signs of life."""
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
        # After a fork all of these are the parent's.
        self._reports.clear()
        self._urgent.clear()
        self.resources.clear()
        self._signalled = self._ending = self._is_blocked = False
        self.monitor = None
        self._draining = gevent.lock.RLock()
        self._gathered = gevent.event.Event()
        self._wake = gevent.get_hub().loop.async_()
        self._wake.start(self._on_wake)
        self._drainer = gevent.spawn(self._drain_forever)
        self.loop = PoolLoop(self.POOL_SIZE)
        started = gevent.event.Event()
        start_native_thread(self._run)
        self._pid = os.getpid()
        self.post(self.to_hub_at_once, started.set)
        started.wait()
        keep_logging_on_this_thread(self._log)

    def _run(self) -> None:
        self.native_id = native("threading", "get_ident")()
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            while not self._ending:
                try:
                    loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets no other exception of a task out
                    self.to_hub_at_once(_end_process, error)
        finally:
            loop.close()

    def close(self, timeout_s: float = 5.0) -> None:
        """Cancel what still runs, end the pools, the loop and its thread; idempotent.

        Takes at most a little over five times `timeout_s`. A loop that a blocking call holds up is left behind: its
        thread does not keep the process alive.
        """
        if not self.running:
            return
        try:
            self.call(asyncio.sleep(0), timeout_s)  # finds a blocked loop sooner than the shutdown would
            self.call(self._shut_down(timeout_s), timeout_s=4 * timeout_s)
        except TimeoutError:
            logger.error("the event loop is blocked and is left behind")
            self._pid = 0
            return
        self._ending = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        while not self.loop.is_closed():  # the thread's last act; it takes under a millisecond
            gevent.sleep(0.001)
        if not self.flush_within(timeout_s):
            logger.error("a listener holds up what the event loop has reported: it is left behind")
        self._pid = 0
        self._drainer.kill(block=False)
        self._wake.stop()
        self._wake.close()

    async def _shut_down(self, timeout_s: float) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=timeout_s)
        # The pools before the resources: a job in a thread may still use one.
        await self.loop.close_pools(timeout_s)
        for resource in list(self.resources.values()):
            try:
                async with asyncio.timeout(timeout_s / len(self.resources)):
                    await (resource.aclose() if hasattr(resource, "aclose") else resource.close())
            except Exception:
                logger.exception("%r could not be closed", resource)
        self.resources.clear()
        await self.loop.shutdown_asyncgens()
        for _ in range(3):  # what was told to close needs a turn of the loop to be closed
            await asyncio.sleep(0)

    # -- hub to loop ---------------------------------------------------------------------------------------------

    def post(self, function: Callback, *args: object) -> None:
        """Have the loop call `function(*args)` soon; from any thread."""
        self.loop.call_soon_threadsafe(function, *args)

    def call(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> Any:
        """Run a coroutine on the loop and park this greenlet until it is done; its exception is raised here.

        Raises TimeoutError after `timeout_s`, and after `AGAIN_S` if an earlier call has waited for nothing, because
        something blocks the loop, and still does; the coroutine goes on, or begins once the loop does. Listeners may
        not have heard yet what it reported: call `flush()` for that.
        """
        if not self.running:
            coroutine.close()
            raise RuntimeError("the loop thread is not running")
        if native("threading", "get_ident")() == self.native_id:
            coroutine.close()
            raise RuntimeError("call() cannot be used from the loop's own thread; await the coroutine there")
        begun = False
        done: gevent.event.AsyncResult = gevent.event.AsyncResult()

        async def run() -> None:
            try:
                result = await coroutine
            except BaseException as error:
                self.to_hub_at_once(done.set_exception, error)
            else:
                self.to_hub_at_once(done.set, result)

        def begin() -> None:
            nonlocal begun
            begun, self._is_blocked = True, False
            self.loop.create_task(run())

        limit_s = min(timeout_s, AGAIN_S) if self._is_blocked and timeout_s is not None else timeout_s
        self.post(begin)
        try:
            with gevent.Timeout(limit_s, TimeoutError):
                return done.get()
        except TimeoutError:
            self._is_blocked = True
            if begun:  # asked last: the loop may begin it in this moment
                self._is_blocked = False
            raise

    # -- loop to hub ---------------------------------------------------------------------------------------------

    def to_hub(self, function: Callback, *args: object) -> None:
        """Have the hub call `function(*args)` with its next batch, in the order of these calls; from any thread."""
        self._reports.append((function, args))
        if not self._signalled:
            self._signalled = True
            self._wake.send()

    def to_hub_at_once(self, function: Callback, *args: object) -> None:
        """Have the hub call `function(*args)`, which must not wait, ahead of all reports; from any thread.

        Whoever waits for the loop is woken this way, so that no listener that holds up the reports can delay it.
        """
        self._urgent.append((function, args))
        self._wake.send()

    @property
    def behind(self) -> bool:
        """Whether the hub is far behind with what the loop reports; for any thread."""
        return len(self._reports) > BACKLOG_LIMIT

    def after_batch(self, function: Callable[[], None]) -> None:
        """Call `function()` on the hub after every batch."""
        self._after_batch.append(function)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Take now what the loop has reported so far; when it returns, every listener has seen it.

        Returns False if another greenlet is at it already and does not finish within `timeout_s`.
        """
        if not self._draining.acquire(timeout=timeout_s):
            return False
        try:
            for _ in range(len(self._reports)):
                if not self._reports:  # a listener has flushed in its turn
                    break
                function, args = self._reports.popleft()
                try:  # as `_attempt`, whose call would cost as much again
                    function(*args)
                except (Exception, gevent.Timeout):
                    logger.exception(NOT_HANDLED)
            for listener in self._after_batch:
                _attempt(listener)
        finally:
            self._draining.release()
        return True

    def flush_within(self, limit_s: float) -> bool:
        """Do the same, for at most `limit_s`; False if a listener has not seen everything by then. It may go on."""
        flushing = gevent.spawn(self.flush)
        flushing.join(limit_s)
        return bool(flushing.ready())

    def _on_wake(self) -> None:
        while self._urgent:
            function, args = self._urgent.popleft()
            _attempt(function, *args)  # if it raised here, what stands behind it would wait for another wake-up
        self._gathered.set()

    def _drain_forever(self) -> None:
        while True:
            self._gathered.wait()
            self._gathered.clear()
            # Cleared before the batch is taken: what comes later signals again, so nothing waits unseen.
            self._signalled = False
            self.flush()
            gevent.sleep(BATCH_S)

    def _log(self, function: Callback, *args: object) -> None:
        if self.running:
            self.to_hub(function, *args)
        else:
            function(*args)


def _attempt(function: Callback, *args: object) -> None:
    """Call `function(*args)`; one listener's mistake must not end the only way back to the hub.

    A `gevent.Timeout` that a listener lets out is no `Exception`.
    """
    try:
        function(*args)
    except (Exception, gevent.Timeout):
        logger.exception(NOT_HANDLED)


def _end_process(error: BaseException) -> None:
    """Raise SystemExit or KeyboardInterrupt in the main greenlet, as gevent does when a greenlet raises it."""
    gevent.get_hub().handle_system_error(type(error), error)
