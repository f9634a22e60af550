"""Streams of server-sent events, read by FastHttpUser's `iter_lines`."""

import os
import time

from locust import FastHttpUser, constant, events, task

from bench.streams import Reader, save


class Stream(FastHttpUser):
    wait_time = constant(0)

    def on_start(self) -> None:
        self.reader = Reader()

    @task
    def read(self) -> None:
        for line in self.client.iter_lines(self.reader.path(), "POST", name="stream"):
            if line.startswith("data: "):
                self.reader.note(line[6:], time.perf_counter_ns())


@events.quit.add_listener  # after the last user has ended
def _save(**_: object) -> None:
    save(os.environ["BENCH_OUT"])
