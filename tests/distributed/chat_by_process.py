"""A locustfile whose request ids name process and moment: the target's ledger then knows who asked, and when."""

import itertools
import os
import time

from asyncload_lib import ChatUser

numbers = itertools.count(1)


class Chat(ChatUser):
    def _headers(self) -> dict[str, str]:
        return {"x-request-id": f"{self.run_id}-{os.getpid()}-{next(numbers)}-{time.monotonic_ns()}"}
