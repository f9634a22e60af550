"""OS threads for `loop.run_in_executor`, whatever gevent made of `threading`.

`concurrent.futures` cannot be used here: the locks in its futures are patched, and waiting for one from a loop that is
not on the hub's thread hangs. Jobs go out through a C queue and come back through `call_soon_threadsafe`.
"""

import _socket
import asyncio
import ipaddress
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary, finalize

import uvloop

from asyncload_lib.eventloop.native import native, start_native_thread

__all__ = ["NativePool", "PoolLoop"]

LOOKUPS = 16
"""Host names that are looked up at the same time."""

Callback = Callable[..., object]


class NativePool:
    """Threads that grow on demand to `size` and end with `close()`. Methods are for the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._loop = loop
        self._size = size
        self._jobs: Any = native("queue", "SimpleQueue")()
        self._idle = 0
        self._threads = 0
        self._ended: asyncio.Event | None = None

    def submit(self, function: Callback, *args: object) -> asyncio.Future[Any]:
        """Run `function(*args)` in a thread. The future carries its result or exception."""
        future = self._loop.create_future()
        if self._idle <= 0 and self._threads < self._size:
            start_native_thread(self._work)
            self._threads += 1
        else:
            self._idle -= 1  # below zero: that many jobs wait for a thread
        self._jobs.put((future, function, args))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function, args = job
            result: object = None
            error: BaseException | None = None
            try:
                result = function(*args)
            except StopIteration as exception:  # a future cannot carry it; CPython 3.12 does the same
                error = RuntimeError(f"{function} raised StopIteration")
                error.__cause__ = exception
            except BaseException as exception:  # it belongs to whoever awaits the future
                error = exception
            self._tell(self._deliver, future, result, error)
            del job, future, function, args, result, error  # else they live until the next job comes
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
        self._idle -= 1
        if self._threads == 0 and self._ended is not None:
            self._ended.set()

    def let_go(self) -> None:
        """Have every thread end when all jobs are done; may be called on any thread."""
        for _ in range(self._threads):
            self._jobs.put(None)

    async def close(self, timeout_s: float) -> None:
        """Let every thread finish its job and end; after `timeout_s` those that still work are left to themselves."""
        self._ended = asyncio.Event()
        self.let_go()
        if self._threads:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._ended.wait()
            except TimeoutError:
                sys.stderr.write(f"asyncload: {self._threads} pool thread(s) still working after {timeout_s:g} s\n")


class PoolLoop(uvloop.Loop):
    """A uvloop loop whose executors are pools of OS threads; make it with `pool_size` threads for the default one."""

    def __init__(self, pool_size: int) -> None:
        super().__init__()
        self._default_pool = NativePool(self, pool_size)
        self._lookups = NativePool(self, LOOKUPS)
        self._pools: WeakKeyDictionary[ThreadPoolExecutor, NativePool] = WeakKeyDictionary()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Run `func(*args)` in a thread; of a ThreadPoolExecutor only the number of its threads is used."""
        if executor is None:
            return self._default_pool.submit(func, *args)
        if not isinstance(executor, ThreadPoolExecutor):
            raise TypeError(f"a {type(executor).__name__} cannot work beside Locust; pass None or a ThreadPoolExecutor")
        if executor not in self._pools:
            self._pools[executor] = pool = NativePool(self, executor._max_workers)
            finalize(executor, pool.let_go).atexit = False  # its threads would wait for jobs for ever
        return self._pools[executor].submit(func, *args)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Connect as asyncio does, with the name looked up in a thread of this loop.

        uvloop's own lookups cannot be ended: one that goes on when the process ends crashes it.
        """
        if host is None or _is_address(host):
            return await super().create_connection(protocol_factory, host, port, **options)
        if options.get("ssl") and options.get("server_hostname") is None:
            options["server_hostname"] = host
        family, flags = options.get("family", 0), options.get("flags", 0)
        found = await self._lookups.submit(_socket.getaddrinfo, host, port, family, _socket.SOCK_STREAM, 0, flags)
        errors = []
        for address in dict.fromkeys(place[0] for *_, place in found):
            try:
                return await super().create_connection(protocol_factory, address, port, **options)
            except OSError as error:
                errors.append(error)
        raise errors[0]

    async def close_pools(self, timeout_s: float) -> None:
        """End the threads of all pools."""
        pools = (self._default_pool, self._lookups, *self._pools.values())
        await asyncio.gather(*(pool.close(timeout_s) for pool in pools))


@lru_cache(maxsize=1024)
def _is_address(host: Any) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
