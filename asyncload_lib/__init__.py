"""Load tests for asyncio backends on Locust: async users, an eye on event loops, criteria with a verdict.

Importing this package loads neither locust nor gevent: a name is imported when it is first asked for, so that a target
can mount `LoopProbe`, and reports can be made, without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncload_lib.eventloop.asgi import LoopProbe
    from asyncload_lib.eventloop.lag import LoopMonitor
    from asyncload_lib.users.base import AsyncUser
    from asyncload_lib.users.chat import ChatStreamUser, ChatUser
    from asyncload_lib.users.files import FileUser
    from asyncload_lib.users.http import AsyncHttpUser
    from asyncload_lib.users.redis import RedisUser
    from asyncload_lib.users.vms import VmHealthUser

__version__ = "0.1.0"

__all__ = [
    "AsyncHttpUser",
    "AsyncUser",
    "ChatStreamUser",
    "ChatUser",
    "FileUser",
    "LoopMonitor",
    "LoopProbe",
    "RedisUser",
    "VmHealthUser",
    "__version__",
]

_HOMES = {
    "AsyncHttpUser": "users.http",
    "AsyncUser": "users.base",
    "ChatStreamUser": "users.chat",
    "ChatUser": "users.chat",
    "FileUser": "users.files",
    "LoopMonitor": "eventloop.lag",
    "LoopProbe": "eventloop.asgi",
    "RedisUser": "users.redis",
    "VmHealthUser": "users.vms",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name].startswith("users."):
        import_module(f"{__name__}.plugin")  # whoever writes a user class wants its requests recorded
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
