"""The users of the suite: each waits at the gate, does its part of a scenario, and is counted out."""

from typing import Any

from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.chat import ChatUser
from asyncload_lib.users.files import FileUser
from asyncload_lib.users.gate import gate
from asyncload_lib.users.redis import RedisUser
from asyncload_lib.users.vms import VmHealthUser

__all__ = ["ChatBurstUser", "ChatSustainedUser", "FileOperationUser", "RedisOperationUser", "VmCheckUser"]


class _PhaseUser(AsyncUser):
    """Does its part once, between the release and its end."""

    abstract = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        cls.tasks = [_PhaseUser.take_part]  # instead of the task it inherits
        super().__init_subclass__(**kwargs)

    async def take_part(self) -> None:
        start = await self._idle(gate.enter)
        try:
            await self.perform(start.ordinal, start.at_ns)
        finally:
            gate.leave()
            self._stop_requested = True  # even after an error: nobody does its part twice

    async def perform(self, ordinal: int, at_ns: int) -> None:
        """Do what this user is there for; `at_ns` is the instant of release, `ordinal` its place over all processes."""
        raise NotImplementedError


class ChatBurstUser(_PhaseUser, ChatUser):
    """One message at the instant of release."""

    abstract = True

    async def perform(self, ordinal: int, at_ns: int) -> None:
        self.take_place(ordinal)
        await self.turn(intended_ns=at_ns)


class ChatSustainedUser(_PhaseUser, ChatUser):
    """Conversations with think time until the phase is finished; the first messages are spread over one think time."""

    abstract = True

    async def perform(self, ordinal: int, at_ns: int) -> None:
        self.take_place(ordinal)
        while await self._idle(gate.pause, self.traffic.think_time_s()):
            await self.turn()


class RedisOperationUser(_PhaseUser, RedisUser):
    """One SET and GET at the instant of release, through a pool that is warm, as that of a running service is."""

    abstract = True
    _held: Any = None

    async def on_start(self) -> None:  # type: ignore[override]
        self._held = await self.hold_connection()

    async def on_stop(self) -> None:
        await self._let_go()  # a user that is stopped at the gate still has it

    async def perform(self, ordinal: int, at_ns: int) -> None:
        self.take_place(ordinal)
        await self._let_go()
        await self.operation(intended_ns=at_ns)

    async def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await self.pool.release(held)


class FileOperationUser(_PhaseUser, FileUser):
    """One file round trip at the instant of release."""

    abstract = True

    async def perform(self, ordinal: int, at_ns: int) -> None:
        await self.operation(intended_ns=at_ns)


class VmCheckUser(_PhaseUser, VmHealthUser):
    """One health check at the instant of release: the `ordinal`-th user asks the `ordinal`-th machine."""

    abstract = True

    async def perform(self, ordinal: int, at_ns: int) -> None:
        await self.check(self.vms[ordinal], intended_ns=at_ns)
