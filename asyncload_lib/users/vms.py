"""Users that check the health of all machines at the same instant."""

import asyncio
import time
from typing import Any

import redis.asyncio as redis_asyncio
from locust import between, task
from locust.exception import StopTest
from pyreqwest.exceptions import PyreqwestError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.http import shared_client
from asyncload_lib.users.response import HttpStatusError
from asyncload_lib.users.transport import transport_error
from asyncload_lib.vm_list import Vm

__all__ = ["VmHealthUser", "require_pong"]


def require_pong(answer: object) -> None:
    """Raise ResponseError where Redis has answered something else: redis-py gives True for PONG."""
    if answer is not True:
        raise ResponseError("the answer to PING is not PONG")


class VmHealthUser(AsyncUser):
    """One round of health checks after another; in a round all machines are asked at the same instant.

    Each check is a request of type `VM` named after its machine. Raises StopTest when no machine is configured.
    """

    abstract = True
    scenario = "vm_health"
    required_setting = "vms"
    wait_time = between(1, 2)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.vms: tuple[Vm, ...] = self.target.vms
        if not self.vms:
            raise StopTest("no machines: list them under [[vms]], or configure nothing to use the embedded target")
        self._client = shared_client(self.loop_thread, self.settings.vm_health.timeout)

    @task
    async def check_all(self) -> None:
        now_ns = time.perf_counter_ns()
        await asyncio.gather(*(self.check(vm, now_ns) for vm in self.vms))

    async def check(self, vm: Vm, intended_ns: int | None = None) -> None:
        """Ask one machine; it is up when it answers HTTP below 400, or PONG, within `vm_health.timeout`."""
        timeout_s = self.settings.vm_health.timeout
        async with self.measure("VM", vm.name, intended_ns=intended_ns), asyncio.timeout(timeout_s):
            if vm.kind == "redis":
                await self._ping(vm, timeout_s)
            else:
                await self._get(vm)

    async def _ping(self, vm: Vm, timeout_s: float) -> None:
        """Ask on a connection of its own, as the blocking check does: that a machine accepts one is part of it."""
        client = redis_asyncio.Redis.from_url(
            vm.url,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=timeout_s,
            driver_info=None,
        )
        async with client:
            require_pong(await client.ping())

    async def _get(self, vm: Vm) -> None:
        try:
            answer = await self._client.get(vm.url).build().send()
        except PyreqwestError as error:
            raise transport_error(error) from error
        if answer.status >= 400:
            raise HttpStatusError(f"HTTP {answer.status}")
