"""Which workers are asked together: those that serve where the request came in, whoever started them."""

import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.eventloop.probed import TOKEN, call, free_port, pids, read, started, wait_for_answer

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
        assert [worker["blocked"] for worker in read(urls[0])["workers"]] == [False]
        assert [worker["blocked"] for worker in read(urls[1])["workers"]] == [True]
