"""Streams of server-sent events, read by FastHttpUser's `iter_lines`."""

import os
import time

from locust import FastHttpUser, constant, events, task

from bench.streams import note, paths, save


class Stream(FastHttpUser):
    wait_time = constant(0)

    def on_start(self) -> None:
        self.paths = paths()

    @task
    def read(self) -> None:
        first = True
        for line in self.client.iter_lines(next(self.paths), "POST", name="stream"):
            if line.startswith("data: "):
                note(line[6:], first, time.perf_counter_ns())
                first = False


@events.quit.add_listener  # after the last user has ended
def _save(**_: object) -> None:
    save(os.environ["BENCH_OUT"])
