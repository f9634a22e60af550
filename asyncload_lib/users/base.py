"""A Locust user whose tasks are coroutines.

Locust keeps spawning, counting and stopping users as greenlets; the greenlet of an `AsyncUser` only parks while the
user's coroutine runs on the process's loop thread. Everything below `_main` runs on that thread.
"""

import asyncio
import contextlib
import logging
import random
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import gevent
import gevent.event
from locust import User
from locust import log as locust_log
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING

from asyncload_lib.eventloop.thread import BATCH_S, LoopThread
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users import events
from asyncload_lib.users.definition import check_definition
from asyncload_lib.users.measure import CONTROL_FLOW, CutOffError, Measurement

__all__ = ["AsyncUser", "loop_thread", "tell_listeners"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

SECOND_STOP_LIMIT_S = 1.0
"""How long a user that overran `STOP_LIMIT_S` may take to end once it is cancelled again."""
FLUSH_LIMIT_S = 1.0
"""How long a user that has ended waits for its requests to be counted."""

_loop_thread = LoopThread()


def loop_thread() -> LoopThread:
    """Return this process's loop thread, started on first use and again after a fork."""
    _loop_thread.start()
    return _loop_thread


class AsyncUser(User):
    """A user of any protocol: `@task`, `on_start` and `on_stop` are `async def`, the rest is as on `locust.User`.

    Raises TypeError when a subclass is defined with a task, `on_start` or `on_stop` that is not `async def`. Tasks run
    on the loop's thread: what belongs to Locust's side, such as `environment.runner.quit`, goes through `on_hub`.
    """

    abstract = True

    settings: ClassVar[Settings] = Settings()
    """The settings of the run."""
    target: ClassVar[Target] = Target()
    """The addresses of the run, those of the embedded target among them."""
    run_id: ClassVar[str] = "run"
    """Names the run in request ids."""

    required_setting: ClassVar[str] = ""
    """The setting without which a run with these users is refused, unless its target is the embedded one."""

    STOP_LIMIT_S = 10.0
    """How long a killed user may spend in its `finally` blocks and `on_stop` before its greenlet gives it up."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_definition(cls, AsyncUser)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.loop_thread = loop_thread()
        self.cut_offs = 0
        """How often all that was in flight was ended because the user is being stopped, not by its own doing."""
        self._stop_requested = False
        self._waiting = False
        self._coroutine_task: asyncio.Task[None] | None = None
        self._is_given_up = False
        """Whether it goes on beyond its end: what it does may fall into another run, in which it does not count."""
        self._finished = gevent.event.Event()

    # -- for subclasses; on the loop -----------------------------------------------------------------------------

    async def on_start(self) -> None:  # type: ignore[override]
        """Called once when the user starts."""

    async def on_stop(self) -> None:
        """Called once when the user stops."""

    def measure(
        self,
        request_type: str,
        name: str,
        *,
        context: dict[str, Any] | None = None,
        intended_ns: int | None = None,
    ) -> Measurement:
        """Return an async context manager that records its block as one request; see `Measurement`."""
        return Measurement(self, request_type, name, context, intended_ns)

    async def wait(self) -> None:
        """Sleep for `wait_time()` seconds; a stop ends the sleep at once."""
        while self.loop_thread.behind:  # noqa: ASYNC110
            await asyncio.sleep(BATCH_S)
        await self._idle(asyncio.sleep, self.wait_time())
        if (monitor := self.loop_thread.monitor) is not None:
            monitor.alive()

    async def _idle(self, wait: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await `wait(*args)`, during which nothing is asked of the target, so that a stop ends it at once."""
        if self._stop_requested:
            raise StopUser
        self._waiting = True
        try:
            return await wait(*args)
        finally:
            self._waiting = False

    def on_hub(self, function: Callable[..., object], *args: object) -> None:
        """Have the hub call `function(*args)` in a greenlet of its own, after all that was reported so far."""
        self.loop_thread.to_hub(gevent.spawn, function, *args)

    # -- Locust's side; on the hub -------------------------------------------------------------------------------

    def run(self) -> None:  # type: ignore[misc]
        """Park the user's greenlet until its coroutine is done; a killed greenlet cancels it."""
        self._state = LOCUST_STATE_RUNNING
        self.loop_thread.post(self._begin)
        try:
            self._finished.wait()
        except gevent.GreenletExit:
            self.loop_thread.post(self._cancel)
            if not self._await_end(self.STOP_LIMIT_S):
                logger.error("%s did not stop within %g s after it was killed", self, self.STOP_LIMIT_S)
                self.loop_thread.post(self._cancel)  # once more: now its `finally` or `on_stop` as well
                is_over = self._await_end(SECOND_STOP_LIMIT_S)
                if not is_over and self.cut_offs:  # else the loop is blocked and has not heard of it: its monitor tells
                    self.report_error(CutOffError("it was cancelled twice, and goes on"))
                    self.loop_thread.to_hub(setattr, self, "_is_given_up", True)
        # Whoever waits for this user's end expects its requests to be counted by then. Not without a limit: a listener
        # may in turn be waiting for this greenlet.
        with contextlib.suppress(gevent.GreenletExit):
            self.loop_thread.flush(timeout_s=FLUSH_LIMIT_S)

    def _await_end(self, limit_s: float) -> bool:
        """Wait for the coroutine's end; True if it came. If the greenlet is killed again, the wait goes on."""
        deadline = time.monotonic() + limit_s
        while not self._finished.is_set() and (left_s := deadline - time.monotonic()) > 0:
            with contextlib.suppress(gevent.GreenletExit):
                self._finished.wait(left_s)
        return bool(self._finished.is_set())

    def stop(self, force: bool = False) -> bool:
        """Stop the user: at once (`force`), or after its current task and without its wait; True if it is gone."""
        if force or self._state is None:
            self._group.killone(self._greenlet)
            return True
        self._state = LOCUST_STATE_STOPPING
        self.loop_thread.post(self._stop_gracefully)
        return False

    def fire_request(self, event: dict[str, Any], metrics: dict[str, list[float]] | None = None) -> None:
        """Tell every listener of Locust's `request` event; one that raises StopUser or StopTest ends the user.

        `metrics`: further figures (us) about it, for the listeners of `request_metrics`.
        """
        if self._is_given_up:
            return
        if tell_listeners(self, event):
            self.loop_thread.post(self._stop_gracefully)
        if metrics:
            events.request_metrics.fire(environment=self.environment, request=event["name"], metrics=metrics)

    # -- the coroutine; on the loop ------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._coroutine_task = asyncio.get_running_loop().create_task(self._main(), name=type(self).__name__)
        # Not a `finally` in _main: a task that is cancelled before its first step never enters the body.
        self._coroutine_task.add_done_callback(self._end)

    def _end(self, coroutine_task: asyncio.Task[None]) -> None:
        self.cut_offs += 1  # what it left in flight will not be finished by anybody
        self._release()
        # What is no `Exception`, such as gevent's GreenletExit, was caught by nothing that reports errors.
        if not coroutine_task.cancelled() and (error := coroutine_task.exception()) is not None:
            self.report_error(error)
        self.loop_thread.to_hub_at_once(self._finished.set)

    def _release(self) -> None:
        """Give back what the user alone has used on the loop; called when it is done, whatever came of it."""

    def _cancel(self) -> None:
        # The flags as well: an awaitable whose result has just arrived may swallow the cancellation.
        self._stop_requested = True
        self.cut_offs += 1
        if self._coroutine_task is not None:
            self._coroutine_task.cancel()

    def _stop_gracefully(self) -> None:
        self._stop_requested = True
        if self._waiting:
            self._cancel()

    async def _main(self) -> None:
        try:
            if await self._start():
                try:
                    await self._run_tasks()
                except (StopUser, StopTest):
                    await self.on_stop()
                except asyncio.CancelledError:
                    if not self.cut_offs:  # it came during the user's wait: in a task it would have been reported
                        await self._report_error(self._strayed())
                    await self.on_stop()
        except asyncio.CancelledError:
            pass  # a second kill, during on_stop
        except Exception as error:
            if not isinstance(error, (StopUser, StopTest)):
                await self._report_error(error)

    async def _start(self) -> bool:
        """Run `on_start`; False if the user must not go on."""
        try:
            await self.on_start()
        except (StopUser, StopTest):
            await self.on_stop()
            return False
        except asyncio.CancelledError:
            if not self.cut_offs:
                raise self._strayed() from None
            await self.on_stop()
            return False
        return True

    def _strayed(self) -> CutOffError:
        """Turn a cancellation that nobody asked for into an error: it must not end the user without a word."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        return CutOffError("what it awaited was cancelled, although nobody stopped this user")

    async def _run_tasks(self) -> None:
        tasks: list[Any] = self.tasks
        if not tasks:
            raise RuntimeError(f"{type(self).__name__} has no tasks: mark an `async def` method with @task")
        while not self._stop_requested:
            try:
                await random.choice(tasks)(self)
            except RescheduleTaskImmediately:
                await asyncio.sleep(0)
                continue
            except InterruptTaskSet as interruption:  # the only set of tasks here is the user's own, which goes on
                if interruption.reschedule:
                    await asyncio.sleep(0)
                    continue
            except RescheduleTask:
                pass
            except (StopUser, StopTest):
                raise
            except (Exception, asyncio.CancelledError) as raised:
                if isinstance(raised, asyncio.CancelledError) and self.cut_offs:
                    raise
                error = raised if isinstance(raised, Exception) else self._strayed()
                await self._report_error(error)
                if not self.environment.catch_exceptions:
                    raise StopUser from error
            await self.wait()
        raise StopUser

    async def _report_error(self, error: Exception) -> None:
        heard = asyncio.get_running_loop().create_future()
        self.loop_thread.to_hub(self._fire_error, error, heard)
        await heard  # else a task that always fails at once would report faster than the hub can log

    def _fire_error(self, error: BaseException, heard: asyncio.Future[None] | None = None) -> None:
        logger.error("%s\n%s", error, "".join(traceback.format_exception(error)))
        try:
            self.environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)
        finally:
            if heard is not None:
                self.loop_thread.post(_settle, heard)

    def report_error(self, error: BaseException) -> None:
        """Tell Locust of an error outside any request; it makes the run incomplete."""
        self.loop_thread.to_hub(self._fire_error, error)


def tell_listeners(user: User, event: dict[str, Any]) -> bool:
    """Tell every listener of Locust's `request` event; True if one of them raised StopUser or StopTest.

    `EventHook.fire` would leave out the listeners behind one that raises such an exception, and they would not count
    the request.
    """
    is_stopped = False
    for listener in user.environment.events.request._handlers.copy():
        try:
            listener(**event)
        except (StopUser, StopTest) as steering:
            logger.info("%s stopped by a request listener: %r", user, steering)
            is_stopped = True
        except CONTROL_FLOW as steering:
            logger.warning("%r of a request listener comes too late: the task of %s has moved on", steering, user)
        except (Exception, gevent.Timeout):
            logger.exception("a listener of the request event failed")
            locust_log.unhandled_greenlet_exception = True
    return is_stopped


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
