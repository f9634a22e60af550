"""A target with faults that block its event loop on purpose; run as a process of its own.

`GET /fault/<name>` runs one fault and answers with what it truly took: {"wall_s", "each_s"}. The culprit's line carries
the mark `# fault: <name>`. `GET /work` is the ordinary load. `POST /turns` has nothing, the monitor and the whole probe
take turns around it, for the measurement of overhead; asked again, it ends them and answers with what `Turns` counted.
`target.py LOOP bare|fastapi`: the latter has no faults, and is for that measurement alone.
Prints {"port"} when it listens, ends when its standard input does.
"""

import asyncio
import gc
import json
import os
import random
import re
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import redis
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from asyncload_lib.eventloop import served as modules
from asyncload_lib.eventloop.asgi import Message, Probe, Receive, Send
from asyncload_lib.eventloop.heartbeat import LIMIT_S, PERIOD_S
from asyncload_lib.eventloop.lag import LoopMonitor
from bench.loops.faults import BURST

TOKEN = "bench"
SLOW = json.loads(os.environ.get("LOOP_FAULTS_SLOW", "{}"))
"""Where the slow peers are: {"http_port", "redis_port", "fifo"}."""
MEGABYTES_50 = "[" + ",".join(['[1, 2.5, "three"]'] * (50 * 1024 * 1024 // 18)) + "]"
MEGABYTES_4 = json.dumps([{"id": at, "name": "x" * 16, "tags": ["a", "b"]} for at in range(70_000)])
EVIL = re.compile(r"(a+)+$")
held = threading.Lock()
MODES = ("nothing", "monitor", "probe")
SETTLED_S, COUNTED_S = 0.05, 0.15
"""The uncounted and the counted part of a turn. Turns are short because a virtual machine's speed changes."""
FAR_NS = 1 << 60
"""A time that never comes: 36 years."""


def cpu_loop(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:  # fault: cpu
        pass


def hold(lock: threading.Lock, taken: threading.Event, seconds: float) -> None:
    with lock:
        taken.set()
        time.sleep(seconds)


took_s: list[float] = []
"""How long each call truly took, where a fault has several, or does something else besides."""


def read_settings() -> bytes:
    start = time.perf_counter()
    time.sleep(0.04)  # fault: to_thread
    took_s.append(time.perf_counter() - start)
    return b"settings"


async def blocking(seconds: float) -> None:
    start = time.perf_counter()
    time.sleep(seconds)  # fault: burst
    took_s.append(time.perf_counter() - start)


async def parsing() -> None:
    start = time.perf_counter()
    json.loads(MEGABYTES_4)  # fault: parses
    took_s.append(time.perf_counter() - start)


def burn_in_c() -> None:
    EVIL.match("a" * 21 + "b")  # fault: gil


def garbage() -> None:
    """Leave cycles behind that only the collector can free."""
    gc.disable()
    cells: list[list[object]] = [[] for _ in range(200_000)]
    for cell in cells:
        cell.append(cell)


async def fault(name: str, seconds: float) -> None:
    if name == "sleep":
        time.sleep(seconds)  # fault: sleep
    elif name == "burst":
        await asyncio.gather(*(blocking(seconds / BURST) for _ in range(BURST)))
    elif name == "parses":
        await asyncio.gather(*(parsing() for _ in range(BURST)))
    elif name == "chain":
        for _ in range(BURST):
            start = time.perf_counter()
            EVIL.match("a" * 21 + "b")  # fault: chain
            took_s.append(time.perf_counter() - start)
            await asyncio.sleep(0)
    elif name == "redis":
        redis.Redis(port=SLOW["redis_port"], protocol=2).execute_command("PING")  # fault: redis
    elif name == "http":
        urllib.request.urlopen(f"http://127.0.0.1:{SLOW['http_port']}/").read()  # fault: http
    elif name == "getaddrinfo":
        socket.getaddrinfo("slow.asyncload.invalid", 80)  # fault: getaddrinfo
    elif name == "cpu":
        cpu_loop(seconds)
    elif name == "json":
        json.loads(MEGABYTES_50)  # fault: json
    elif name == "regex":
        EVIL.match("a" * 21 + "b")  # fault: regex
    elif name == "fifo":
        Path(SLOW["fifo"]).read_bytes()  # fault: fifo
    elif name == "lock":
        held.acquire()  # fault: lock
        held.release()
    elif name == "to_thread":
        await asyncio.to_thread(len, read_settings())
    elif name == "gc":
        gc.collect()  # fault: gc
    elif name == "gil":
        await asyncio.sleep(0.05)


async def run_fault(name: str, seconds: float) -> dict[str, Any]:
    took_s.clear()
    thread = None
    if name == "lock":
        thread = threading.Thread(target=hold, args=(held, taken := threading.Event(), 0.04))
        thread.start()
        while not taken.is_set():
            await asyncio.sleep(0)
    elif name == "gil":
        thread = threading.Thread(target=burn_in_c, name="number cruncher")
        thread.start()
    elif name == "gc":
        await asyncio.to_thread(garbage)
        await asyncio.sleep(0.02)
    start = time.perf_counter()
    await fault(name, seconds)
    whole_s = time.perf_counter() - start
    truth = {"wall_s": took_s[0] if len(took_s) == 1 else whole_s, "each_s": took_s[:]}
    gc.enable()
    while thread is not None and thread.is_alive():
        await asyncio.sleep(0.001)
    return truth


def ordinary() -> FastAPI:
    """Return a backend as it is usually written: routes, a model for the body, one for the answer."""

    class Numbers(BaseModel):
        numbers: list[float]

    api = FastAPI()

    @api.get("/work")
    async def work() -> Numbers:
        await asyncio.sleep(0)
        return Numbers(numbers=[random.random() for _ in range(20)])

    @api.post("/turns")
    async def take_turns() -> dict[str, Any]:
        return turns.begin_or_end()

    return api


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path: str = scope["path"]
    answer: dict[str, Any] = {"ok": True}
    if path.startswith("/fault/"):
        seconds = float(parse_qs(scope["query_string"].decode()).get("seconds", ["0"])[0])
        answer = await run_fault(path.removeprefix("/fault/"), seconds)
    elif path == "/turns":
        answer = turns.begin_or_end()
    else:
        json.loads(json.dumps({"numbers": [random.random() for _ in range(20)]}))
        await asyncio.sleep(0)
    body = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class PausableMonitor(LoopMonitor):
    """A monitor that stands still while another mode has its turn, and goes on as if no time had passed.

    If it began anew in each turn, its beginning would be measured: it then takes the CPU time of all threads twice, for
    0.4 ms each time, which it later does once a second. It adds no attribute: with a thirtieth, CPython looks up all of
    them more slowly (73 ns instead of 50 for eight).
    """

    def pause(self) -> None:
        """Stand still, and cost nothing; what is due at a time is kept as the time that is left until then."""
        if self._timer is None:
            return
        assert self._watchdog is not None
        self._timer.cancel()
        self._timer = None
        self._gc.stop()
        now = time.perf_counter_ns()
        self._chores_ns -= now
        self._signs_until_ns -= now
        self._pulse.beat_ns = self._pulse.alive_ns = FAR_NS  # should the watchdog be awake, it has no reason to be
        self._watchdog._alarm.set(FAR_NS - now, now)

    def go_on(self) -> None:
        """Start, or go on behind the pause."""
        if not self.running:
            self.start()
            return
        assert self._watchdog is not None
        assert self._loop is not None
        now, cpu = time.perf_counter_ns(), time.thread_time_ns()
        self._pulse.beat_ns = self._pulse.alive_ns = self._pulse.begun_ns = now
        self._pulse.cpu_ns = cpu
        self._chores_ns += now
        self._signs_until_ns += now
        self._open_window(now, cpu)
        self._gc.start()
        self._watchdog._alarm.set(self._watchdog.patience_ns, now)
        self._timer = self._loop.call_later(self._pace_ns / 1e9, self._beat)


served = ordinary() if sys.argv[2] == "fastapi" else app


class ProbeWithPauses(Probe):
    """A probe whose loop is watched by a monitor that can pause."""

    def watch_with(self, monitor: LoopMonitor) -> None:
        """Put this monitor in the place of the present one."""
        here = self._here()
        assert here is not None
        assert here.gives_signs, "something stands between the loop and the probe, so it would cost more than it does"
        if here.monitor is not monitor:
            here.monitor.stop()
            here.monitor = monitor


modules.BEFORE_THE_PROBE += (f"{__name__}.",)  # `server_app` below, which only counts
probe = ProbeWithPauses(served, TOKEN, "/asyncload/loop", LIMIT_S, PERIOD_S)
monitor = PausableMonitor("target")
mounted = probe.middleware()
outermost = mounted


def switch(mode: str) -> None:
    """Have requests from now on meet nothing, the monitor alone, or the whole probe."""
    global outermost
    outermost = mounted if mode == "probe" else served
    monitor.pause()
    if mode != "nothing":
        monitor.go_on()


class Turns:
    """Modes that take turns, each round in another order, while the load goes on; counts the requests in each turn.

    They are counted here, because a generator that stopped and began again for each turn would measure its own starts.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.counted: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
        """Of each mode, turn by turn: requests per second, and seconds of CPU (all threads) for one of them."""
        self._left: list[str] = []
        self._next: asyncio.TimerHandle | None = None
        self._begun_s = self._loop_cpu_s = 0.0

    def begin_or_end(self) -> dict[str, Any]:
        """Begin, in a task: from there the monitor finds what runs the loop. Or end, and return what was `counted`.

        `busy`: the share of the time for which the loop's thread had the CPU.
        """
        now_s, loop_cpu_s = time.perf_counter(), time.thread_time()
        if self._next is None:
            monitor.start()
            probe.watch_with(monitor)
            self._begun_s, self._loop_cpu_s = now_s, loop_cpu_s
            self._take()
            return {}
        self._next.cancel()
        return {"counted": self.counted, "busy": (loop_cpu_s - self._loop_cpu_s) / (now_s - self._begun_s)}

    def _take(self) -> None:
        if not self._left:
            self._left = random.sample(MODES, len(MODES))
        switch(self._left[-1])
        self._next = asyncio.get_running_loop().call_later(SETTLED_S, self._count)

    def _count(self) -> None:
        before = (self.requests, time.perf_counter(), time.process_time())
        self._next = asyncio.get_running_loop().call_later(COUNTED_S, self._count_up, *before)

    def _count_up(self, requests: int, start_s: float, cpu_s: float) -> None:
        if done := self.requests - requests:  # else the machine stood still, and the turn is taken again
            per_s, cost_s = done / (time.perf_counter() - start_s), (time.process_time() - cpu_s) / done
            self.counted[self._left.pop()].append((per_s, cost_s))
        self._take()


turns = Turns()


async def server_app(scope: Message, receive: Receive, send: Send) -> None:
    turns.requests += 1
    await outermost(scope, receive, send)


def main() -> None:
    # Named as TCP: asyncio switches Nagle off only on such sockets, and headers and body are two writes.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    server = uvicorn.Server(uvicorn.Config(server_app, log_level="warning", loop=sys.argv[1], access_log=False))

    def until_parent_ends() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=until_parent_ends, daemon=True).start()
    gc.freeze()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    asyncio.Runner(loop_factory=server.config.get_loop_factory()).run(server.serve([listener]))


if __name__ == "__main__":
    main()
