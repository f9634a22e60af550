"""Which workers are asked together: those that serve where the request came in, whoever started them."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.eventloop.siblings import Siblings
from tests.distributed.cluster import free_port
from tests.eventloop.probed import APP, TOKEN, call, pids, read, server, started, wait_for_answer

pytestmark = pytest.mark.chance


def reset(url: str) -> dict[str, Any]:
    status, body = call(f"{url}/watch/reset", "POST", TOKEN)
    assert status == 200
    answer: dict[str, Any] = json.loads(body)
    return answer


def wait_for_workers(url: str, number: int) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while len((answer := read(url))["workers"]) != number:
        assert time.monotonic() < deadline, answer["workers"]
        time.sleep(0.05)
    return answer


def test_workers_that_were_given_one_socket_find_each_other(short_tmp: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        served = ("-m", "uvicorn", "probed:app", "--log-level", "warning", "--fd", str(listener.fileno()))
        commands = (served, (*served, "--no-access-log"), (*served, "--no-server-header"))  # a line of its own for each
        processes = [stack.enter_context(started(short_tmp, *it, fds=(listener.fileno(),))) for it in commands]
        for process in processes:
            wait_for_answer(url, process)
        answer = wait_for_workers(url, 3)
        assert sorted(pids(answer)) == sorted(process.pid for process in processes)
        assert answer["problem"] == ""
        assert pids(reset(url)) == pids(answer)

        port = free_port()  # another server of the same application
        with started(short_tmp, *served[:-2], "--port", str(port)) as other:
            wait_for_answer(f"http://127.0.0.1:{port}", other)
            assert pids(reset(f"http://127.0.0.1:{port}")) == [other.pid]
            assert pids(reset(url)) == pids(answer)
    assert list(short_tmp.glob("asyncload-*")) == []


LAUNCHER = """
import multiprocessing, signal, sys
import uvicorn

def serve(port):
    uvicorn.run("probed:app", port=port, log_level="warning")

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    services = [context.Process(target=serve, args=(int(port),)) for port in sys.argv[1:]]
    for service in services:
        service.start()
    signal.signal(signal.SIGTERM, lambda *_: [service.terminate() for service in services])
    for service in services:
        service.join()
"""


def test_two_services_of_one_launcher_are_no_siblings(short_tmp: Path) -> None:
    (short_tmp / "launcher.py").write_text(LAUNCHER)
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with started(short_tmp, str(short_tmp / "launcher.py"), *map(str, ports)) as launcher:
        for url in urls:
            wait_for_answer(url, launcher)
        first, second = (pids(reset(url)) for url in urls)
        assert (len(first), len(second)) == (1, 1)
        assert first != second
        call(f"{urls[1]}/block")
        found = [read(url)["workers"] for url in urls]
        assert [[worker["blocked"] for worker in workers] for workers in found] == [[False], [True]], found


TWO_LOOPS = """
import asyncio, sys, threading
import uvicorn
import probed

def serve(port):
    server = uvicorn.Server(uvicorn.Config(probed.app, port=int(port), log_level="warning"))
    asyncio.Runner(loop_factory=server.config.get_loop_factory()).run(server.serve())

for port in sys.argv[2:]:
    threading.Thread(target=serve, args=(port,), daemon=True).start()
serve(sys.argv[1])
"""


def test_each_loop_of_a_process_that_serves_the_application_is_read(short_tmp: Path) -> None:
    (short_tmp / "two_loops.py").write_text(TWO_LOOPS)
    ports = [free_port(), free_port()]
    first, second = (f"http://127.0.0.1:{port}" for port in ports)
    with started(short_tmp, str(short_tmp / "two_loops.py"), *map(str, ports)) as process:
        for url in (first, second):
            wait_for_answer(url, process)
        status, body = call(f"{first}/watch/reset?limit_s=0.02", "POST", TOKEN)
        assert (status, pids(json.loads(body))) == (200, [process.pid] * 2)
        for _ in range(3):
            call(f"{second}/block")
            call(first)
        workers = read(first)["workers"]
        assert sorted(worker["stalls"] for worker in workers) == [0, 3]
        assert {worker["limit_s"] for worker in workers} == {0.02}


READ_ONLY = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/proc']\n"


def test_where_nothing_can_be_written_a_worker_is_watched_and_others_are_told_of(short_tmp: Path) -> None:
    with server(short_tmp, app=READ_ONLY + APP) as url:
        assert len(pids(reset(url))) == 1
        call(f"{url}/block")
        report = read(url)
        assert (len(report["workers"]), report["blocked"]) == (1, True)
        assert "No usable temporary directory" in report["problem"]

    with socket.create_server(("127.0.0.1", 0)) as listener:  # by which others may have been started, too
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        served = ("-m", "uvicorn", "probed:app", "--log-level", "warning", "--fd", str(listener.fileno()))
        with started(short_tmp, *served, app=READ_ONLY + APP, fds=(listener.fileno(),)) as process:
            wait_for_answer(url, process)
            own, others = sorted(reset(url)["workers"], key=lambda worker: worker["pid"] is None)
            assert own["pid"] == process.pid
            assert "No usable temporary directory" in others["silent"]


def test_a_parent_that_cannot_be_looked_into_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def listening(process: int | str = "self", apart_from: str | None = None) -> frozenset[str]:
        if process != "self":
            raise PermissionError
        return frozenset({"an address"})

    def nowhere(key: str, number: int) -> tuple[str, str, str]:
        raise OSError("no directory")

    async def answer(command: str) -> dict[str, Any]:
        return {}

    async def main() -> list[str]:
        siblings = Siblings("key", answer)
        await siblings.open()
        return [row["silent"] for _ in range(3) for row in await siblings.ask("report")]

    monkeypatch.setattr("asyncload_lib.eventloop.siblings.listening_places", listening)
    monkeypatch.setattr("asyncload_lib.eventloop.siblings.socket_place", nowhere)
    assert len(told := asyncio.run(main())) == 3
    assert [words.count("the process that started this one") for words in told] == [1, 1, 1]


SOON = "from asyncload_lib.eventloop import siblings\nsiblings.RENEW_S = 0.3\n"


def test_workers_whose_sockets_were_removed_are_not_judged_until_they_are_renewed(short_tmp: Path) -> None:
    with server(short_tmp, "--workers", "3", app=SOON + APP) as url:
        before = pids(wait_for_workers(url, 3))
        for what in ("directory", "own socket", "replaced"):
            (root,) = short_tmp.glob("asyncload-*")
            if what == "directory":
                shutil.rmtree(root)
            else:
                for path in root.glob("*/*.sock"):
                    path.unlink()
                    if what == "replaced":
                        path.write_text("")

            # From the first answer after that on: all three, or a word that some are missing.
            deadline = time.monotonic() + 30
            while True:
                workers = read(url)["workers"]
                lost = [worker["silent"] for worker in workers if worker["pid"] is None]
                assert len(lost) == 1 or sorted(pids({"workers": workers})) == before, (what, workers)
                if not lost and len(list(short_tmp.glob("asyncload-*/*/*.sock"))) == 3:
                    break
                assert not lost or "sockets of the workers were removed" in lost[0]
                assert time.monotonic() < deadline, what
                time.sleep(0.05)


FORKS = """
import os, time

async def forking(scope, receive, send):
    if scope.get("path") != "/fork":
        await app_before(scope, receive, send)
        return
    child = os.fork()
    if child == 0:
        time.sleep(120)
        os._exit(0)
    body = b"%d %d" % (os.getpid(), child)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

app_before, app = app, forking
"""


def test_a_killed_worker_is_forgotten_though_a_child_of_it_lives(short_tmp: Path) -> None:
    with server(short_tmp, "--workers", "2", app=APP + FORKS) as url:
        wait_for_workers(url, 2)
        worker, child = map(int, call(f"{url}/fork")[1].split())
        try:
            os.kill(worker, signal.SIGKILL)
            deadline = time.monotonic() + 30
            while worker in pids(answer := reset(url)) or len(answer["workers"]) < 2:
                assert not any("silent" in entry for entry in answer["workers"]), answer
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            os.kill(child, signal.SIGKILL)


NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def can_unshare() -> bool:
    try:
        return os.getuid() == 0 and subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_unshare(), reason="makes a PID namespace")
def test_containers_that_share_a_temporary_directory_leave_each_other_alone(short_tmp: Path) -> None:
    with server(short_tmp, "--workers", "2") as url:
        workers = pids(wait_for_workers(url, 2))
        sockets = set(short_tmp.glob("asyncload-*/*/*.sock"))
        assert len(sockets) == 2
        with server(short_tmp, "--workers", "2", within=NAMESPACE) as other:
            wait_for_workers(other, 2)
            assert pids(read(url)) == workers
            assert len(list(short_tmp.glob("asyncload-*/*"))) == 2  # the same process ids may be in both
        assert set(short_tmp.glob("asyncload-*/*/*.sock")) >= sockets
        assert pids(reset(url)) == workers
