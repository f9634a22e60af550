"""A locustfile whose request ids name the process, so that the target's ledger knows who asked."""

import itertools
import os

from asyncload_lib import ChatUser

numbers = itertools.count(1)


class Chat(ChatUser):
    def _headers(self) -> dict[str, str]:
        return {"x-request-id": f"{self.run_id}-{os.getpid()}-{next(numbers)}"}
