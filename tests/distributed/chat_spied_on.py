"""A locustfile that writes down every message its process sends, in the file `wire` of the working directory."""

from pathlib import Path

import locust.rpc.protocol

from asyncload_lib import ChatUser

serialize = locust.rpc.protocol.Message.serialize


def spy(message: locust.rpc.protocol.Message) -> bytes:
    data: bytes = serialize(message)
    with Path("wire").open("ab") as file:
        file.write(data)
    return data


locust.rpc.protocol.Message.serialize = spy


class Chat(ChatUser):
    pass
