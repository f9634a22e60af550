"""A locustfile that writes down every message its process sends, in the file `wire` of the working directory."""

from collections.abc import Callable
from pathlib import Path

import locust.rpc.protocol

from asyncload_lib import ChatUser

serialize: Callable[[locust.rpc.protocol.Message], bytes] = locust.rpc.protocol.Message.serialize


def spy(message: locust.rpc.protocol.Message) -> bytes:
    data = serialize(message)
    with Path("wire").open("ab") as file:
        file.write(data)
    return data


locust.rpc.protocol.Message.serialize = spy  # type: ignore[method-assign]


class Chat(ChatUser):
    pass
