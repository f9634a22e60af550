"""What is reported against what is true: answers after known delays, and the raw latencies beside the histogram."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.locust_run import LocustRun

pytestmark = pytest.mark.chance

MODES_MS = (5, 50, 500)

SERVER = textwrap.dedent(
    """
    import asyncio, json, sys, time
    log = open(sys.argv[1], "w", buffering=1)
    async def serve(reader, writer):
        try:
            while line := await reader.readline():
                path = line.split()[1].decode()
                while (await reader.readline()) not in (b"\\r\\n", b""):
                    pass
                begun = time.perf_counter()
                if path.startswith("/after/"):
                    await asyncio.sleep(int(path.rpartition("/")[2]) / 1000)
                writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
                await writer.drain()
                log.write(json.dumps([path, time.perf_counter() - begun]) + "\\n")
        except ConnectionError:
            pass
        finally:
            writer.close()
    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
    asyncio.run(main())
    """
)

LOCUSTFILE = textwrap.dedent(
    """
    from locust import constant, task, events
    from asyncload_lib import AsyncHttpUser
    raw = open("raw.log", "w", buffering=1)
    @events.request.add_listener
    def keep(name, response_time, **_):
        raw.write(f"{name} {response_time!r}\\n")
    class Three(AsyncHttpUser):
        wait_time = constant(0.02)
        @task(10)
        async def quick(self):
            await self.client.get("/after/5")
        @task(5)
        async def middling(self):
            await self.client.get("/after/50")
        @task(1)
        async def slow(self):
            await self.client.get("/after/500")
    """
)


@pytest.fixture(name="port")
def server_port(tmp_path: Path) -> Iterator[int]:
    """The port of a server that answers after a known delay and logs how long each answer took it."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path / "server.log")], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    yield int(server.stdout.readline())
    server.kill()
    server.wait()
    server.stdout.close()


def test_known_delays_are_reported_as_they_were(tmp_path: Path, port: int) -> None:
    locustfile = tmp_path / "three.py"
    locustfile.write_text(LOCUSTFILE)
    arguments = ("--headless", "-u", "6", "-r", "6", "-t", "5s", "-H", f"http://127.0.0.1:{port}")
    with LocustRun(locustfile, *arguments, out=tmp_path / "reports") as run:
        run.wait()
        endpoints = {row["name"]: row for row in run.results["metrics"][0]["endpoints"]}

    took: dict[str, list[float]] = {}
    for line in (tmp_path / "server.log").read_text().splitlines():
        path, seconds = json.loads(line)
        took.setdefault(path, []).append(seconds)
    raw: dict[str, list[float]] = {}
    for line in (tmp_path / "raw.log").read_text().splitlines():
        path, milliseconds = line.split()
        raw.setdefault(path, []).append(float(milliseconds) / 1e3)
    import numpy as np

    for mode_ms in MODES_MS:
        row = endpoints[f"/after/{mode_ms}"]
        assert row["total_requests"] == len(raw[row["name"]]) == len(took[row["name"]])
        truth = float(np.median(took[row["name"]]))
        assert truth <= row["p50_latency"] <= truth + 0.002
        for q in (50, 95, 99):
            exact = float(np.percentile(raw[row["name"]], q))
            assert abs(row[f"p{q}_latency"] - exact) <= 0.001 * exact
