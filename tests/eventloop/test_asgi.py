import asyncio
import functools
import gc
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.eventloop import siblings
from asyncload_lib.eventloop.asgi import LoopProbe, Probe
from asyncload_lib.eventloop.heartbeat import LIMIT_S, PERIOD_S
from tests.eventloop.probed import TOKEN, call, read, server

pytestmark = pytest.mark.chance

PATH = "/asyncload/loop"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("single")) as url:
        yield url


def test_the_probe_names_the_line_that_blocks_the_target(single: str) -> None:
    assert call(f"{single}/watch/reset", "POST", TOKEN)[0] == 200
    assert read(single)["blocked"] is False
    call(f"{single}/block")

    report = read(single)

    assert report["name"] == "target"
    assert report["blocked"] is True
    (culprit,) = [culprit for culprit in report["culprits"] if culprit["cause"] == "loop"]
    assert culprit["file"].endswith("probed.py")
    assert culprit["call"] == "time.sleep(0.15)"
    assert culprit["function"] == "inner"
    assert call(f"{single}/watch/reset", "POST", TOKEN)[0] == 200
    assert read(single)["culprits"] == []


def test_a_reset_brings_the_limits_of_the_run(single: str) -> None:
    status, body = call(f"{single}/watch/reset?limit_s=0.6&period_s=0.02", "POST", TOKEN)
    assert (status, json.loads(body)["limit_s"], json.loads(body)["period_s"]) == (200, 0.6, 0.02)
    call(f"{single}/block")
    report = read(single)
    assert (report["blocked"], report["limit_s"], report["period_s"]) == (False, 0.6, 0.02)

    assert call(f"{single}/watch/reset", "POST", TOKEN)[0] == 200
    call(f"{single}/block")
    report = read(single)
    assert (report["blocked"], report["limit_s"], report["period_s"]) == (True, 0.01, 0.003)


@pytest.mark.parametrize(
    "query", ["limit_s=x", "limit_s=nan", "limit_s=0.004", "limit_s=0", "limit_s=61", "period_s=0.02", "limit_s=%FF"]
)
def test_limits_that_are_none_are_refused(single: str, query: str) -> None:
    assert call(f"{single}/watch/reset?{query}", "POST", TOKEN)[0] == 400
    assert read(single)["limit_s"] == 0.01


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "/watch", None, 401),
        ("GET", "/watch", "secres", 401),
        ("GET", "/watch", "", 401),
        ("POST", "/watch/reset", None, 401),
        ("POST", "/watch", TOKEN, 405),
        ("GET", "/watch/reset", TOKEN, 405),
        ("GET", "/watch", TOKEN, 200),
    ],
)
def test_the_findings_are_guarded(single: str, method: str, path: str, token: str | None, status: int) -> None:
    code, body = call(single + path, method, token)

    assert code == status
    assert status == 200 or b"culprits" not in body


def test_other_paths_go_to_the_app(single: str) -> None:
    assert call(f"{single}/watchful")[1].isdigit()
    assert call(f"{single}/")[1].isdigit()


def test_it_brings_neither_locust_nor_gevent_into_the_target(single: str) -> None:
    assert call(f"{single}/modules") == (200, b"")


def test_all_workers_behind_one_port_are_read_and_reset(short_tmp: Path) -> None:
    with server(short_tmp, "--workers", "3") as url:
        deadline = time.monotonic() + 30
        while len(read(url)["workers"]) < 3:  # they start one after the other
            assert time.monotonic() < deadline
            time.sleep(0.1)
        status, body = call(f"{url}/watch/reset?limit_s=0.02", "POST", TOKEN)
        assert status == 200
        assert len(json.loads(body)["workers"]) == 3

        blocked: set[int] = set()
        while len(blocked) < 2:  # whichever workers take the requests
            blocked.add(int(call(f"{url}/block")[1]))
            assert time.monotonic() < deadline
        reports = {report["pid"]: report for report in read(url)["workers"]}

        assert len(reports) == 3
        assert {report["worker"] for report in reports.values()} == {1, 2, 3}
        assert {report["limit_s"] for report in reports.values()} == {0.02}
        assert {pid for pid, report in reports.items() if report["stalls"]} == blocked
        assert oct(next(short_tmp.glob("asyncload-*")).stat().st_mode)[-3:] == "700"
    assert list(short_tmp.glob("asyncload-*")) == []


def test_a_directory_that_others_may_write_is_not_used(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_tmp))
    root = short_tmp / f"asyncload-{os.getuid()}"
    root.mkdir()
    root.chmod(0o777)

    async def own(command: str) -> dict[str, Any]:
        return {"pid": 1}

    async def main() -> None:
        group = siblings.Siblings("key", own)
        await group.open()
        assert "not a private directory" in group.problem
        assert await group.ask("report") == []
        group.close()

    asyncio.run(main())
    assert list(root.iterdir()) == []


def test_the_socket_of_a_dead_worker_is_forgotten(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_tmp))

    async def own(command: str) -> dict[str, Any]:
        return {"pid": os.getpid(), "command": command}

    async def main() -> None:
        group = siblings.Siblings("key", own)
        await group.open()
        (directory,) = (short_tmp / f"asyncload-{os.getuid()}").iterdir()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(directory / "99999999-1.sock"))
        assert await group.ask("report") == []
        assert [path.name.partition("-")[0] for path in directory.iterdir()] == [str(os.getpid())]
        assert group.problem == ""
        group.close()

    asyncio.run(main())
    assert list(short_tmp.iterdir()) == []


def test_a_silent_worker_is_named_among_the_others(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_tmp))
    monkeypatch.setattr(siblings, "TIMEOUT_S", 0.2)
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        probe = Probe(app, TOKEN, PATH, LIMIT_S, PERIOD_S)
        mounted = probe.middleware()
        await mounted({"type": "http", "path": "/", "headers": []}, nothing, send)
        headers = [(b"x-asyncload-token", TOKEN.encode())]
        (directory,) = (short_tmp / f"asyncload-{os.getuid()}").iterdir()
        with socket.socket(socket.AF_UNIX) as hanging:
            hanging.bind(str(directory / f"{os.getppid()}-1.sock"))
            hanging.listen()
            await mounted({"type": "http", "method": "GET", "path": PATH, "headers": headers}, nothing, send)
        probe._stop()

    asyncio.run(main())

    workers = json.loads(sent[1]["body"])["workers"]
    mine, silent = sorted(workers, key=lambda worker: "silent" in worker)
    assert (mine["pid"], mine["blocked"]) == (os.getpid(), False)
    assert silent["pid"] == os.getppid()
    assert "did not answer: TimeoutError" in silent["silent"]


def test_workers_that_cannot_be_asked_are_told_of(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_tmp))
    monkeypatch.setattr(siblings, "group_pid", lambda: os.getppid())
    (short_tmp / f"asyncload-{os.getuid()}").mkdir(mode=0o777)
    (short_tmp / f"asyncload-{os.getuid()}").chmod(0o777)

    async def own(command: str) -> dict[str, Any]:
        return {"pid": 1}

    async def main() -> list[dict[str, Any]]:
        group = siblings.Siblings("key", own)
        await group.open()
        return await group.ask("report")

    (entry,) = asyncio.run(main())
    assert entry["pid"] is None
    assert "not a private directory" in entry["silent"]


def test_it_watches_from_the_first_request_where_no_lifespan_is_served(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_tmp))
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        time.sleep(0.15)

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        probe = Probe(app, TOKEN, PATH, LIMIT_S, PERIOD_S)
        mounted = probe.middleware()
        await mounted({"type": "http", "path": "/", "headers": []}, nothing, send)
        headers = [(b"x-asyncload-token", TOKEN.encode())]
        await mounted({"type": "http", "method": "GET", "path": PATH, "headers": headers}, nothing, send)
        probe._stop()

    asyncio.run(main())

    assert sent[0]["status"] == 200
    assert json.loads(sent[1]["body"])["blocked"] is True


async def nothing() -> Any: ...


async def unheard(message: Any) -> None: ...


def test_where_it_cannot_start_the_application_goes_on_and_the_findings_prove_nothing(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_tmp))
    tries: list[int] = []

    def refuse(*_: Any) -> None:
        tries.append(1)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("asyncload_lib.eventloop.watchdog.start_native_thread", refuse)
    served: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope["path"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        probe = Probe(app, TOKEN, PATH, LIMIT_S, PERIOD_S)
        mounted = probe.middleware()
        for number in range(3):
            await mounted({"type": "http", "path": f"/{number}", "headers": []}, nothing, send)
        headers = [(b"x-asyncload-token", TOKEN.encode())]
        await mounted({"type": "http", "method": "GET", "path": PATH, "headers": headers}, nothing, send)
        probe._stop()

    listeners = len(gc.callbacks)
    asyncio.run(main())

    assert (served, len(tries), len(gc.callbacks)) == (["/0", "/1", "/2"], 1, listeners)
    assert sent[0]["status"] == 200
    findings = json.loads(sent[1]["body"])
    assert findings["blocked"] is None
    assert "never started" in findings["note"]


class Named:
    """Applications of every kind that can be called; each tells which of them was."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.told.append("object")

    async def method(self, scope: Any, receive: Any, send: Any) -> None:
        self.told.append("method")

    async def replaced(self, scope: Any, receive: Any, send: Any) -> None:
        self.told.append("replaced")


class Static:
    told: list[str] = []

    @staticmethod
    async def __call__(scope: Any, receive: Any, send: Any) -> None:
        Static.told.append("static")


async def tell(told: list[str], scope: Any, receive: Any, send: Any) -> None:
    told.append("partial")


@pytest.mark.parametrize("kind", ["object", "attribute", "method", "partial", "static", "replaced", "replaced later"])
def test_it_calls_an_application_as_the_server_would(
    kind: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_tmp))
    told: list[str] = []
    named = Named(told)
    app: Any = {"method": named.method, "partial": functools.partial(tell, told), "static": Static()}.get(kind, named)
    if kind == "attribute":
        app.__call__ = named.method  # nobody who calls an object ever sees that
    probe = Probe(app, TOKEN, PATH, LIMIT_S, PERIOD_S)
    mounted = probe.middleware()
    if kind == "replaced":  # as a tracer does that is switched on after the application was put together
        monkeypatch.setattr(Named, "__call__", Named.replaced)

    async def main() -> None:
        for number in range(3):
            await mounted({"type": "http", "path": f"/{number}", "headers": []}, nothing, unheard)
        probe._stop()
        if kind == "replaced later":  # and before the next loop
            monkeypatch.setattr(Named, "__call__", Named.replaced)
            await mounted({"type": "http", "path": "/", "headers": []}, nothing, unheard)
            await mounted({"type": "http", "path": "/", "headers": []}, nothing, unheard)
            probe._stop()

    Static.told = told
    asyncio.run(main())

    expected = {"attribute": ["object"] * 3, "replaced later": ["object"] * 3 + ["replaced"] * 2}
    assert told == expected.get(kind, [kind] * 3)


def test_it_watches_the_next_loop_from_its_first_request(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_tmp))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message: Any) -> None: ...

    probe = Probe(app, TOKEN, PATH, LIMIT_S, PERIOD_S)
    mounted = probe.middleware()

    async def one_life() -> None:
        watched = mounted({"type": "lifespan"}, nothing, send)
        await watched
        assert not probe.monitor.running

    async def begun() -> None:
        await mounted({"type": "http", "path": "/", "headers": []}, nothing, send)
        assert probe.monitor.running
        assert probe.monitor.pulse.alive_ns > 0  # the sign of life was the new run's, not one at time 0
        assert probe.monitor.alive()
        probe._stop()
        assert not probe.monitor.alive()

    asyncio.run(one_life())
    asyncio.run(begun())  # at once: within the period of a heartbeat


def test_a_deep_temporary_directory_does_not_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("deep" * 30)))

    async def own(command: str) -> dict[str, Any]:
        return {}

    async def main() -> None:
        group = siblings.Siblings("key", own)
        await group.open()
        assert group.problem == ""
        group.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"token": ""}, ValueError, "needs a token"),
        ({"token": "a b"}, ValueError, "without spaces"),  # no setting could name it
        ({"token": 5}, ValueError, "a text of visible ASCII"),
        ({"path": 5}, ValueError, "path is 5"),
        ({"path": ""}, ValueError, "path is ''"),
        ({"path": "/"}, ValueError, "not the root itself"),
        ({"path": "/a b"}, ValueError, "path is '/a b'"),
        ({"limit_s": 0.001}, ValueError, r"limit_s is 0\.001"),
        ({"limit_s": "10ms"}, TypeError, "limit_s is '10ms': it must be a number of seconds"),
    ],
)
def test_what_cannot_work_is_not_mounted(given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        LoopProbe(None, **{"token": "t", **given})  # type: ignore[arg-type]


def test_the_probe_answers_behind_the_prefix_that_a_server_puts_before_all_paths(short_tmp: Path) -> None:
    with server(short_tmp, "--root-path", "/api") as url:
        assert call(f"{url}/watch/reset", "POST", TOKEN)[0] == 200
        assert read(url)["blocked"] is False
        assert call(f"{url}/watch")[0] == 401


def test_the_probe_of_a_mounted_application_answers_below_it(short_tmp: Path) -> None:
    app = """
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Mount, Route
        from asyncload_lib import LoopProbe
        async def home(request):
            return PlainTextResponse("home")
        inner = LoopProbe(Starlette(routes=[Route("/", home)]), token="secret", path="/watch")
        app = Starlette(routes=[Mount("/sub", app=inner)])
    """
    with server(short_tmp, app=app) as url:
        assert call(f"{url}/sub/")[1] == b"home"
        assert read(f"{url}/sub")["blocked"] is False
        assert call(f"{url}/watch", token=TOKEN)[0] == 404


MOUNTED = """
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route
    from asyncload_lib import LoopProbe
    async def home(request):
        return PlainTextResponse("home")
    inner = LoopProbe(Starlette(routes=[Route("/{rest:path}", home)]), token="secret", path="/watch")
    app = Starlette(routes=[Mount("/v1", app=inner), Mount("/v2", app=inner), Mount("/v", app=inner)])
"""
STRIPPED = """
    from fastapi import FastAPI
    from asyncload_lib import LoopProbe
    app = FastAPI(root_path="/api")  # behind a proxy that may strip the prefix, or not
    app.add_middleware(LoopProbe, token="secret", path="/watch")
    @app.get("/health")
    async def health():
        return "home"
"""


@pytest.mark.parametrize(
    ("app", "others", "paths", "not_paths"),
    [
        (MOUNTED, "/v2/health", ("/v1/watch", "/v2/watch", "/v/watch"), ("/v1watch", "/v1/home/watch", "/v1/watch/it")),
        (STRIPPED, "/api/health", ("/watch", "/api/watch"), ("/apiwatch", "/api/api/watch", "/home/watch")),
    ],
    ids=["mounted twice", "with and without its prefix"],
)
def test_the_probe_answers_wherever_it_is_reached_whatever_was_asked_before(
    app: str, others: str, paths: tuple[str, ...], not_paths: tuple[str, ...], short_tmp: Path
) -> None:
    with server(short_tmp, app=app) as url:
        for path in paths:
            for _ in range(3):
                assert b"home" in call(f"{url}{others}")[1]
                assert call(f"{url}{path}/reset", "POST", TOKEN)[0] == 200
                status, body = call(f"{url}{path}", token=TOKEN)
                assert (status, json.loads(body)["blocked"]) == (200, False)
                assert call(f"{url}{path}")[0] == 401
        for path in not_paths:
            assert b"culprits" not in call(f"{url}{path}", token=TOKEN)[1]


def test_on_a_loop_that_is_not_asyncios_the_application_goes_on_and_is_not_judged() -> None:
    served: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope["type"])
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.shutdown.complete"})

    async def send(message: Any) -> None:
        sent.append(message)

    def run(scope: Any) -> None:
        """As trio does, for what never waits."""
        with pytest.raises(StopIteration):
            mounted(scope, nothing, send).__await__().__next__()

    probe = Probe(app, TOKEN, PATH, LIMIT_S, PERIOD_S)
    mounted = probe.middleware()
    run({"type": "lifespan"})
    for number in range(3):
        run({"type": "http", "path": f"/{number}", "headers": []})
    sent.clear()
    headers = [(b"x-asyncload-token", TOKEN.encode())]
    for method, path in (("POST", f"{PATH}/reset"), ("GET", PATH)):
        run({"type": "http", "method": method, "path": path, "headers": headers})

    assert served == ["lifespan", "http", "http", "http"]
    assert [message["status"] for message in sent[::2]] == [200, 200]
    for message in sent[1::2]:
        (worker,) = json.loads(message["body"])["workers"]
        assert worker["pid"] == os.getpid()
        assert "does not run the application on a loop of asyncio" in worker["silent"]
