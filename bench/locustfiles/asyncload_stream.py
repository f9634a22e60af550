"""Streams of server-sent events, read by asyncload; BENCH_OUT: where the way of each event is kept."""

import os

from locust import constant, events, task

from asyncload_lib import AsyncHttpUser
from asyncload_lib.users.sse import SseParser
from bench.streams import Reader, save


class Stream(AsyncHttpUser):
    wait_time = constant(0)

    async def on_start(self) -> None:  # type: ignore[override]
        self.reader = Reader()

    @task
    async def read(self) -> None:
        parser = SseParser()
        async with self.client.post(self.reader.path(), name="stream", stream=True) as response:
            async for chunk in response.iter_bytes():
                for data in parser.feed(chunk):
                    self.reader.note(data, response.ended_ns)


@events.quit.add_listener  # after the last user has ended
def _save(**_: object) -> None:
    save(os.environ["BENCH_OUT"])
