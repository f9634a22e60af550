"""A target with faults that block its event loop on purpose; run as a process of its own.

`GET /fault/<name>` runs one fault and answers with what it truly took: {"wall_s", "cpu_s"}. The culprit's line carries
the mark `# fault: <name>`. `GET /work` is the ordinary load; `POST /mode/nothing|monitor|probe` says what stands around
it from now on, for the measurement of overhead, and answers with what was used so far (`usage`). With `-timed` behind
it the time spent inside is measured, too, which itself costs a little. `POST /mode/turns` has the three take turns,
and answers with what `Turns` counted so far.
`target.py LOOP bare|fastapi`: the latter has no faults, and is for that measurement alone.
Prints {"port", "pid"} when it listens, ends when its standard input does.
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
from collections.abc import Callable
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
from asyncload_lib.eventloop.gcpause import GcPauses
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


def read_settings() -> bytes:
    time.sleep(0.04)  # fault: to_thread
    return b"settings"


took_s: list[float] = []
"""How long each call of a burst or a chain truly took."""


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
    took_s.clear()
    wall, cpu = time.perf_counter(), time.thread_time()
    await fault(name, seconds)
    truth = {"wall_s": time.perf_counter() - wall, "cpu_s": time.thread_time() - cpu, "each_s": took_s[:]}
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

    @api.post("/mode/{mode}")
    async def mode(mode: str) -> dict[str, Any]:
        return change(mode)

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
    elif path.startswith("/mode/"):
        answer = change(path.removeprefix("/mode/"))
    else:
        json.loads(json.dumps({"numbers": [random.random() for _ in range(20)]}))
        await asyncio.sleep(0)
    body = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Stopwatch:
    """Sums the time that the loop's thread spends inside of functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time taken."""

        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            self.seconds += time.perf_counter() - start
            return result

        return timed


stopwatch = Stopwatch()


class TimedGcPauses(GcPauses):
    _heard = stopwatch.around(GcPauses._heard)


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


class TimedMonitor(PausableMonitor):
    """A second monitor, whose beats are timed: wrappers set on the first one would make every beat of it slower."""

    _beat = stopwatch.around(LoopMonitor._beat)

    def __init__(self) -> None:
        super().__init__()
        self._gc = TimedGcPauses()

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Start it, in a task: what runs the loop is found from there, for around the beat it would be the stopwatch.

        With that for the loop, no request would be taken for a sign of life.
        """
        super().start(loop)
        self._based = True


served = ordinary() if sys.argv[2] == "fastapi" else app


class ProbeWithMonitors(Probe):
    """A probe whose loop is watched by one monitor or another."""

    def watch_with(self, monitor: LoopMonitor) -> None:
        """Put this monitor in the place of the present one."""
        here = self._here()
        assert here is not None
        assert here.gives_signs, "something stands between the loop and the probe, so it would cost more than it does"
        if here.monitor not in monitors.values():
            here.monitor.stop()
        here.monitor = monitor


modules.BEFORE_THE_PROBE += (f"{__name__}.",)  # `server_app` below, which only counts
probe = ProbeWithMonitors(served, TOKEN, "/asyncload/loop", LIMIT_S, PERIOD_S)
monitors = {False: PausableMonitor("target"), True: TimedMonitor()}
mounted = probe.middleware()
outermost = mounted
mode_now = ""


def switch(mode: str) -> None:
    """Have requests from now on meet nothing, the monitor alone, or the whole probe."""
    global outermost, mode_now
    if mode == mode_now:
        return
    mode_now, kind, is_timed = mode, mode.removesuffix("-timed"), mode.endswith("-timed")
    outermost = mounted if kind == "probe" else served
    if is_timed:
        outermost = stopwatch.around(outermost)
    for monitor in monitors.values():
        monitor.pause()
    probe.watch_with(monitors[is_timed])
    if kind != "nothing":
        monitors[is_timed].go_on()


class Turns:
    """Modes that take turns, each round in another order, while the load goes on; counts the requests in each turn.

    They are counted here, because a generator that stopped and began again for each turn would measure its own starts.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.per_s: dict[str, list[float]] = {mode: [] for mode in MODES}
        self._left: list[str] = []
        self.next: asyncio.TimerHandle | None = None

    def take(self) -> None:
        """Begin the next turn."""
        if not self._left:
            self._left = random.sample(MODES, len(MODES))
        switch(self._left[-1])
        self.next = asyncio.get_running_loop().call_later(SETTLED_S, self._count)

    def end(self) -> None:
        """Let the mode stay as it is."""
        if self.next is not None:
            self.next.cancel()

    def _count(self) -> None:
        loop = asyncio.get_running_loop()
        self.next = loop.call_later(COUNTED_S, self._counted, self.requests, time.perf_counter())

    def _counted(self, requests: int, start: float) -> None:
        per_s = (self.requests - requests) / (time.perf_counter() - start)
        self.per_s[self._left.pop()].append(per_s)
        self.take()


turns = Turns()


def change(mode: str) -> dict[str, Any]:
    if mode == "turns":
        if turns.next is None:
            # Started here, in a task: from a timer's callback it is not known before the first beat what runs the
            # loop, and a request that comes sooner is not taken for a sign of life, nor is any after it.
            switch("monitor")
            turns.take()
        return turns.per_s
    turns.end()
    switch(mode)
    return usage()


def usage() -> dict[str, float]:
    """Return the seconds so far of CPU of all threads, of this thread's, and inside what is timed; and the time now.

    The time inside an application ends when it has handed its coroutine on.
    """
    return {
        "cpu_s": time.process_time(),
        "loop_cpu_s": time.thread_time(),
        "inside_s": stopwatch.seconds,
        "now_s": time.perf_counter(),
    }


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
    print(json.dumps({"port": listener.getsockname()[1], "pid": os.getpid()}), flush=True)
    asyncio.Runner(loop_factory=server.config.get_loop_factory()).run(server.serve([listener]))


if __name__ == "__main__":
    main()
