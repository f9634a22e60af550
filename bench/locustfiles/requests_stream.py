"""Streams of server-sent events the way genai-bench reads them: requests' `iter_lines(chunk_size=None)` on greenlets.

A re-implementation of that reading loop in a few lines, not genai-bench itself.
"""

import os
import time

import requests
from locust import User, constant, events, task

from bench.streams import Reader, save


class Stream(User):
    wait_time = constant(0)

    def on_start(self) -> None:
        self.reader = Reader()

    @task
    def read(self) -> None:
        with requests.post(f"{self.host}{self.reader.path()}", stream=True) as response:
            for line in response.iter_lines(chunk_size=None):  # type: ignore[call-overload]  # iter_content takes None
                if line.startswith(b"data: "):
                    self.reader.note(line[6:], time.perf_counter_ns())


@events.quit.add_listener  # after the last user has ended
def _save(**_: object) -> None:
    save(os.environ["BENCH_OUT"])
