"""The target seen by both witnesses: what it may pass on, and what only looks like silence."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import gevent.event
import pytest
from gevent.pywsgi import WSGIServer

from asyncload_lib.errors import AsyncloadError
from asyncload_lib.eventloop.findings import Findings
from asyncload_lib.eventloop.lag import LoopMonitor
from asyncload_lib.eventloop.native import native
from asyncload_lib.eventloop.thread import LoopThread
from asyncload_lib.report.one_sided import from_outside
from asyncload_lib.run import observer as observer_module
from asyncload_lib.run.observer import TargetObserver, _held_to
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from tests.users.swarm import eventually

Answer = Callable[[str, str], tuple[str, bytes]]


class Served:
    """A target on this hub: `answer(method, path)` is asked for whatever is not the witness's path."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.paths: list[str] = []
        self._server = WSGIServer(("127.0.0.1", 0), self._serve, log=None)

    def _serve(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.paths.append(environ["PATH_INFO"])
        status, body = "200 OK", b"ok"
        if environ["PATH_INFO"] != "/api/health":
            status, body = self.answer(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        start_response(status, [("content-length", str(len(body)))])
        return [body]

    @contextmanager
    def running(self) -> Iterator[str]:
        self._server.start()
        try:
            yield f"127.0.0.1:{self._server.server_port}"
        finally:
            self._server.stop()


class Probe:
    """What a probe answers; `reads`, `confirms`: the process that a reading and a reset come to."""

    def __init__(self, reads: int = 7, confirms: int = 7) -> None:
        self.reads, self.confirms = reads, confirms
        self.failing = False
        self.found: dict[str, Any] = {}
        """What a reading has instead of no stall at all."""
        self._begun_s = time.perf_counter()

    def __call__(self, method: str, path: str) -> tuple[str, bytes]:
        if self.failing:
            return "503 Service Unavailable", b""
        if method == "POST":
            self._begun_s = time.perf_counter()
            worker: dict[str, Any] = {"pid": self.confirms, "worker": 1, "reset": True}
        else:
            findings = Findings(0, 0.01, 0.003)
            findings.lag(0, 1)
            watched_ns = int((time.perf_counter() - self._begun_s) * 1e9)
            worker = {"pid": self.reads, "worker": 1, **findings.report("target", watched_ns), **self.found}
        return "200 OK", json.dumps({**worker, "workers": [worker], "problem": ""}).encode()


@pytest.fixture(name="thread")
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    thread.start()
    yield thread
    thread.close()


@contextmanager
def observed(
    thread: LoopThread, answer: Answer, credentials: str = "", token: str | None = "secret"
) -> Iterator[tuple[TargetObserver, Served]]:
    """An observer that was reset, once the witness has asked some times."""
    served = Served(answer)
    # The target is served by this very process: how slow it is does not matter here.
    settings = Settings()
    with served.running() as address:
        target = Target(host=f"http://{credentials}{address}", probe_token=token)
        observer = TargetObserver(LoopMonitor(), thread, target, settings)
        observer._witness._limit_s = 2.0  # type: ignore[union-attr]
        observer.start()
        observer.reset()
        try:
            seen = len(served.paths)
            eventually(lambda: len(served.paths) > seen + 10)
            yield observer, served
        finally:
            observer.stop()


def test_both_witnesses_pass_a_target_that_is_well(thread: LoopThread) -> None:
    with observed(thread, Probe()) as (observer, _):
        inside, outside = observer.report()

    assert (inside["name"], inside["blocked"], inside["process"]) == ("target", False, "pid 7")
    assert (outside["name"], outside["blocked"]) == ("target (outside)", False)


@pytest.mark.parametrize(
    ("answer", "mend"),
    [
        (lambda method, path: ("200 OK", b'{"detail": "ok"}'), "no LoopProbe is there; mount one"),
        (
            lambda method, path: ("200 OK", b'{"workers": [{"pid": 1, "worker": 1, "max_stall": NaN}]}'),
            "no LoopProbe is there; mount one",
        ),
        (lambda method, path: ("404 Not Found", b""), "no LoopProbe is there; mount one"),
        (lambda method, path: ("401 Unauthorized", b""), "the token is wrong; set loop.probe_token"),
        (None, "no probe token is known: set loop.probe_token"),
    ],
    ids=["catch-all", "NaN", "not found", "unauthorized", "no token"],
)
def test_a_target_without_a_probe_is_judged_from_outside(thread: LoopThread, answer: Answer | None, mend: str) -> None:
    with observed(thread, answer or Probe(), token=None if answer is None else "secret") as (observer, _):
        (outside,) = observer.report()

    assert outside["blocked"] is False
    assert mend in from_outside([outside])
    assert "answered earlier" not in outside["note"]


def test_a_probe_that_falls_silent_is_no_pass(thread: LoopThread) -> None:
    probe = Probe()
    with observed(thread, probe) as (observer, _):
        probe.failing = True
        (outside,) = observer.report()

    assert outside["blocked"] is outside["proven_stall"] is None
    assert "503" in outside["note"]
    assert "answered earlier: the target has died" in outside["note"]


def test_what_holds_up_the_reset_is_before_the_measurement(thread: LoopThread) -> None:
    probe = Probe()

    def slow(method: str, path: str) -> tuple[str, bytes]:
        if method == "POST":
            native("time", "sleep")(2.5)  # holds the hub, and with it the target
        return probe(method, path)

    with observed(thread, slow) as (observer, _):
        eventually(lambda: observer._witness._answered > 10)  # type: ignore[union-attr]
        inside, outside = observer.report()

    assert (inside["blocked"], outside["blocked"]) == (False, False)
    assert outside["max_stall"] == 0.0


def test_stalls_of_the_ramp_are_forgotten_where_the_target_confirms_it(thread: LoopThread) -> None:
    with observed(thread, Probe()) as (observer, _):
        longest_s = max(row["watched_s"] for row in observer.report())
        assert observer.reset(amid_load=True)
        rows = observer.report()

    assert all(row["watched_s"] < longest_s for row in rows)
    assert not any("confirm" in row["note"] for row in rows)


@pytest.mark.parametrize(
    ("is_carried_out", "found", "blocked"),
    [(False, {}, False), (False, {"blocked": True}, True), (True, {}, None), (True, {"blocked": True}, True)],
)
def test_a_target_that_confirms_nothing_amid_the_load_is_watched_on(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch, is_carried_out: bool, found: dict[str, Any], blocked: bool
) -> None:
    """What a blocked loop is asked comes to it later, when nobody waits for the answer any more."""
    monkeypatch.setattr(observer_module, "AMID_LOAD_TIMEOUT_S", 0.2)
    probe, is_free = Probe(), gevent.event.Event()
    is_free.set()
    resets: list[str] = []

    def busy(method: str, path: str) -> tuple[str, bytes]:
        is_free.wait()
        answer = probe(method, path) if method == "GET" or is_carried_out or not resets else ("200 OK", b"")
        resets.extend([path] if method == "POST" else [])
        return answer

    with observed(thread, busy) as (observer, _):
        before_s = observer.report()[-1]["watched_s"]
        is_free.clear()
        assert not observer.reset(amid_load=True)
        is_free.set()
        probe.found = found
        eventually(lambda: len(resets) == 2)
        inside, outside = observer.report()

    assert inside["blocked"] is blocked, inside["note"]
    assert outside["watched_s"] > before_s + 0.2, "it was not reset"
    assert all("did not confirm in time" in row["note"] for row in (inside, outside) if row["blocked"] is not None)


def test_another_process_than_the_one_that_began_anew_is_not_judged(thread: LoopThread) -> None:
    with observed(thread, Probe(reads=8, confirms=7)) as (observer, _):
        *inside, outside = observer.report()

    assert [row["blocked"] for row in inside] == [None, None]
    assert "load balancer" in inside[0]["note"]
    assert "missing at the end" in inside[1]["note"]
    assert outside["blocked"] is False


def test_no_password_comes_into_the_rows(thread: LoopThread) -> None:
    probe = Probe()
    probe.failing = True
    with observed(thread, probe, credentials="user:pw@") as (observer, _):
        rows = observer.report()

    assert "pw" not in json.dumps(rows)
    assert rows[0]["process"].startswith("http://user:***@127.0.0.1")


def test_nothing_is_asked_after_the_end(thread: LoopThread) -> None:
    with observed(thread, Probe()) as (observer, served):
        observer.stop()
        asked = len(served.paths)
        gevent.sleep(0.2)  # ten times the witness's interval

        assert len(served.paths) <= asked + 4  # those that were on their way
        assert observer.report() == []


def test_a_loop_that_hangs_leaves_the_target_unjudged(thread: LoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    release = native("_thread", "allocate_lock")()
    release.acquire()
    with observed(thread, Probe()) as (observer, served):
        monkeypatch.setattr(observer_module, "LOOP_TIMEOUT_S", 0.1)
        monkeypatch.setattr(observer_module, "PROBE_TIMEOUT_S", 0.1)
        thread.post(release.acquire)
        (row,) = observer.report()
        observer.reset()
        observer.stop()
        with pytest.raises(AsyncloadError, match="blocked"):
            observer.start()
        release.release()
        thread.call(asyncio.sleep(0))
        asked = len(served.paths)
        gevent.sleep(0.2)  # ten times the witness's interval
        assert len(served.paths) <= asked + 4, "it was stopped"

    assert (row["name"], row["blocked"], row["max_stall"]) == ("target", None, None)
    assert "hangs" in row["note"]


def test_what_was_refused_because_the_loop_was_blocked_does_not_begin_after_all(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = native("_thread", "allocate_lock")()
    release.acquire()
    with observed(thread, Probe()) as (observer, served):
        observer.stop()
        asked = len(served.paths)
        monkeypatch.setattr(observer_module, "LOOP_TIMEOUT_S", 0.1)
        thread.post(release.acquire)
        with pytest.raises(AsyncloadError, match="blocked"):
            observer.start()
        release.release()
        thread.call(asyncio.sleep(0))
        gevent.sleep(0.2)  # ten times the witness's interval
        assert len(served.paths) <= asked + 4


@pytest.mark.parametrize(
    ("target", "unwatched", "why"),
    [
        (Target(), "the users have several hosts", "several hosts"),
        (Target(host="svc:50051"), "", "svc:50051 is not an http"),
    ],
)
def test_what_cannot_be_watched_is_unjudged(thread: LoopThread, target: Target, unwatched: str, why: str) -> None:
    observer = TargetObserver(LoopMonitor(), thread, target, Settings(), unwatched)
    observer.start()
    observer.reset()
    (row,) = observer.report()

    assert (row["name"], row["blocked"]) == ("target", None)
    assert why in row["note"]


def test_without_a_target_there_is_nothing_to_report(thread: LoopThread) -> None:
    observer = TargetObserver(LoopMonitor(), thread, Target(), Settings())
    observer.start()

    assert observer.report() == []


@pytest.mark.parametrize(
    ("own_s", "blocked", "max_stall_s", "limit_s", "judged"),
    [
        (0.01, True, 0.02, 0.05, False),
        (0.01, True, 0.06, 0.05, True),
        (0.01, False, 0.0, 0.05, False),
        (0.05, False, 0.0, 0.01, None),
        (0.05, True, 0.06, 0.01, True),
        (0.01, True, 0.02, 0.01, True),
        (0.01, None, 0.0, 0.05, None),
        (0.05, None, 0.0, 0.01, None),
    ],
)
def test_a_limit_of_its_own_is_not_the_limit_of_the_run(
    own_s: float, blocked: bool | None, max_stall_s: float, limit_s: float, judged: bool | None
) -> None:
    row = _held_to(limit_s, {"limit_s": own_s, "blocked": blocked, "max_stall": max_stall_s, "note": ""})
    assert row["blocked"] is judged
    assert ("instead of loop.limit" in row["note"]) == (own_s != limit_s)
