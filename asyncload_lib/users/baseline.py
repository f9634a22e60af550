"""The same operations the way an unconverted service does them: blocking calls, one after another.

(The chat baseline needs no user of its own: the same users talk to a backend that blocks its loop.) These are plain
Locust users; each does one pass, as one client, and reports its operations like any other request.
"""

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gevent
import redis
import requests
from locust import User, task
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING
from redis.backoff import NoBackoff
from redis.retry import Retry

from asyncload_lib.users import events
from asyncload_lib.users.base import AsyncUser, loop_thread, tell_listeners
from asyncload_lib.users.entries import Entries
from asyncload_lib.users.files import FileSpace, file_space
from asyncload_lib.users.gate import gate
from asyncload_lib.users.measure import tally
from asyncload_lib.users.ordinals import next_ordinal, worker_index
from asyncload_lib.users.redis import CONNECTING
from asyncload_lib.users.response import HttpStatusError
from asyncload_lib.users.transport import (
    AnswerTimeoutError,
    BadAnswerError,
    BodyTimeoutError,
    ConnectionBrokenError,
    ConnectionFailedError,
    ConnectTimeoutError,
    TransportError,
)
from asyncload_lib.users.vms import require_pong
from asyncload_lib.vm_list import Vm

__all__ = ["MixedBaselineUser", "RedisBaselineUser", "VmBaselineUser"]


NOT_IN_TIME = "the answer did not end in time"


class _BaselineUser(User):
    """One pass of blocking operations, begun at the release, reported and counted out at its end.

    Listeners of an async user's requests run beside the loop. Between two blocking operations they would be part of the
    chain whose length is compared with the async phase, so they hear of the pass when it is over.
    """

    abstract = True

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.loop_thread = loop_thread()
        self._events: list[dict[str, Any]] = []
        """Of the requests of this pass, for Locust's listeners."""
        self.settings = AsyncUser.settings
        self.target = AsyncUser.target

    @task
    def one_pass(self) -> None:
        self._state = LOCUST_STATE_WAITING  # as in Locust's own wait: a stop ends it at once
        self.loop_thread.call(gate.enter())
        self._state = LOCUST_STATE_RUNNING
        try:
            for operation in self.operations():
                if self._state == LOCUST_STATE_STOPPING:
                    break
                operation()
        finally:
            # By the queue that async users report through: a kill of this greenlet cannot cut it short, and the hub
            # hears of all requests before it hears that the pass is over.
            for event in self._events:
                self.loop_thread.to_hub(tell_listeners, self, event)
            self.loop_thread.post(gate.leave)
            self._state = LOCUST_STATE_STOPPING  # even after an error: nobody does its pass twice

    def operations(self) -> Iterator[Callable[[], None]]:
        """Yield the operations of the pass in order."""
        raise NotImplementedError

    @contextmanager
    def measured(self, request_type: str, name: str) -> Iterator[None]:
        """Keep the block as one request to report; an exception is its failure and goes no further."""
        error: Exception | None = None
        tally.started += 1
        start_time, begun_ns = time.time(), time.perf_counter_ns()
        try:
            yield
        except Exception as exception:
            error = exception
        except BaseException:  # the user was stopped
            age_us = (time.perf_counter_ns() - begun_ns) / 1e3
            events.request_abandoned.fire(
                environment=self.environment, request_type=request_type, name=name, age_us=age_us
            )
            raise
        finally:
            tally.ended += 1
        ended_ns = time.perf_counter_ns()
        self._events.append(
            {
                "request_type": request_type,
                "name": name,
                "response_time": (ended_ns - begun_ns) / 1e6,
                "response_length": 0,
                "exception": error,
                "context": self.context(),
                "start_time": start_time,
                "url": None,
                "response": None,
                "ended_ns": ended_ns,
            }
        )


class RedisBaselineUser(_BaselineUser):
    """`redis.operations` times SET and GET through a sync client, one after another."""

    abstract = True

    def on_start(self) -> None:
        """Connect, as a user of the async pool does: neither is to pay for it after the release."""
        options = self.settings.redis
        self._redis = _redis_client(self.target.redis_url or "", options.timeout)
        self._prefix = f"{options.key_prefix}baseline:{AsyncUser.run_id}:{next_ordinal(self.environment)}:"
        pool = self._redis.connection_pool
        limit = _in_all(options.timeout * CONNECTING, redis.TimeoutError(NOT_IN_TIME))
        with contextlib.suppress(redis.RedisError, OSError), limit:  # what fails here fails again where it is measured
            pool.release(pool.get_connection())

    def on_stop(self) -> None:
        self._redis.close()

    def operations(self) -> Iterator[Callable[[], None]]:
        return self.redis_operations(self.settings.redis.operations)

    def redis_operations(self, count: int) -> Iterator[Callable[[], None]]:
        """Yield `count` times SET with expiry, GET, compare, on one blocking connection."""
        options = self.settings.redis

        def operation(number: int) -> None:
            # The same entry that the user with this ordinal writes in the scenario itself.
            key, value = Entries(f"{self._prefix}{number}:", options.value_bytes, self.settings.seed, number).next()
            with self.measured("REDIS", "set+get"):
                self._redis.set(key, value, px=max(int(options.ttl * 1000), 1))
                if self._redis.get(key) != value:
                    raise ValueError("the value read is not the value written")

        for number in range(count):
            yield partial(operation, number)


class MixedBaselineUser(RedisBaselineUser):
    """File and Redis operations in turn, one after another."""

    abstract = True

    def on_start(self) -> None:
        super().on_start()
        self._space: FileSpace = file_space(self.loop_thread, self.settings, worker_index(self.environment))

    def operations(self) -> Iterator[Callable[[], None]]:
        yield from self.file_operations(self.settings.files.operations)
        yield from self.redis_operations(self.settings.mixed.redis_operations)

    def file_operations(self, count: int) -> Iterator[Callable[[], None]]:
        """Yield `count` file round trips, called directly."""
        for _ in range(count):
            yield self._file_operation

    def _file_operation(self) -> None:
        payload = self._space.payload()
        with self.measured("FILE", "write+read"):
            self._space.reserve(len(payload))
            try:
                self._space.round_trip(payload)
            finally:
                self._space.free(len(payload))
        gevent.sleep(0)  # file calls never wait on the hub: all else, a stop among it, would wait for the last file


class _UncheckedTls(requests.adapters.HTTPAdapter):
    """One TLS context for all machines, as the async check has it.

    urllib3 would read the system's certificates for each of them, which takes 15 to 50 ms, only to check none.
    """

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname = False
        super().init_poolmanager(*args, ssl_context=tls, **options)


class VmBaselineUser(_BaselineUser):
    """Every machine asked in turn, each after the answer of the one before."""

    abstract = True

    def on_start(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False  # else proxies and .netrc are looked up again for each request
        self._session.mount("https://", _UncheckedTls())

    def on_stop(self) -> None:
        self._session.close()

    def operations(self) -> Iterator[Callable[[], None]]:
        for vm in self.target.vms:
            yield partial(self._check, vm)

    def _check(self, vm: Vm) -> None:
        timeout_s = self.settings.vm_health.timeout
        with self.measured("VM", vm.name):
            if vm.kind == "redis":
                _ping(vm, timeout_s)
            else:
                _get(self._session, vm.url, timeout_s)


def _in_all(timeout_s: float, error: Exception) -> gevent.Timeout:
    """Limit a whole check. The limit of the library comes first: its error tells more, but it holds for each read."""
    return gevent.Timeout(timeout_s + 0.01, error)


def _redis_client(url: str, timeout_s: float) -> redis.Redis:
    """Return a blocking client that tries each command once, as the async ones do."""
    return redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        driver_info=None,
    )


def _ping(vm: Vm, timeout_s: float) -> None:
    with _redis_client(vm.url, timeout_s) as client, _in_all(timeout_s, redis.TimeoutError(NOT_IN_TIME)):
        require_pong(client.ping())


def _get(session: requests.Session, url: str, timeout_s: float) -> None:
    """Ask as the async check does: no redirect is followed, and 400 or above is a failure."""
    try:
        with _in_all(timeout_s, BodyTimeoutError(NOT_IN_TIME)):
            answer = session.get(url, timeout=timeout_s, verify=False, allow_redirects=False)
    except requests.RequestException as error:
        raise _failure(error) from None
    if answer.status_code >= 400:
        raise HttpStatusError(f"HTTP {answer.status_code}")


def _failure(error: requests.RequestException) -> TransportError:
    """Return the same failure in the words of the async check; those of `requests` contain the URL with its secrets."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
    if isinstance(error, requests.ConnectTimeout):
        return ConnectTimeoutError("no connection in time")
    if isinstance(error, requests.Timeout):
        return AnswerTimeoutError("no answer in time")
    if isinstance(cause, TimeoutError):
        return BodyTimeoutError("the answer did not end in time")
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or isinstance(cause, ConnectionResetError):
        return ConnectionBrokenError(text)
    if isinstance(error, requests.ConnectionError):
        return ConnectionFailedError(text)
    return BadAnswerError(text)
