"""Health checks of machines in every state, all asked at the same instant."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from locust import task
from locust.exception import StopUser
from redis.exceptions import ResponseError

from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users.baseline import _ping
from asyncload_lib.users.vms import VmHealthUser
from asyncload_lib.vm_list import Vm
from tests.users.swarm import Swarm, eventually

DEFAULT = Settings()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken and nothing is ever answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


class Nope(socketserver.StreamRequestHandler):
    """Greets as Redis does, and says NOPE to PING."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = [self.rfile.readline().strip() for _ in range(2 * int(line[1:]))]
            greeting = b"%%1\r\n+proto\r\n:%b\r\n" % words[3] if words[1] == b"HELLO" else b"+OK\r\n"
            self.wfile.write(b"+NOPE\r\n" if words[1] == b"PING" else greeting)


def person(*vms: Vm, timeout: float = 5.0) -> type[VmHealthUser]:
    class Person(VmHealthUser):
        target = Target(vms=vms)
        settings = replace(DEFAULT, vm_health=replace(DEFAULT.vm_health, timeout=timeout))

        @task
        async def work(self) -> None:
            await self.check_all()
            raise StopUser

    Person.tasks = [Person.work]
    return Person


@pytest.mark.parametrize("kind", ["async", "baseline"])
def test_redis_that_answers_something_else_is_down(kind: str) -> None:
    """The real one always says PONG; this is whatever else may listen there, such as a proxy without a server."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Nope) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        vm = Vm("Redis", "redis", f"redis://127.0.0.1:{server.server_address[1]}")
        if kind == "async":
            with Swarm(person(vm)) as swarm:
                swarm.run()
            failures = swarm.failures
        else:
            with pytest.raises(ResponseError) as caught:
                _ping(vm, 5.0)
            failures = [str(caught.value)]
        server.shutdown()
    assert failures == ["the answer to PING is not PONG"]


@pytest.mark.chance
def test_six_machines_are_asked_at_once(demo: DemoStack) -> None:
    with Swarm(person(*(Vm(**vm) for vm in demo.vms))) as swarm:
        begun = time.perf_counter()
        swarm.run()
        took_s = time.perf_counter() - begun
    assert {event["name"] for event in swarm.requests} == {vm["name"] for vm in demo.vms}
    assert {event["request_type"] for event in swarm.requests} == {"VM"}
    assert swarm.failures == []
    delays_ms = [values[0] / 1e3 for name, values in swarm.metrics if name == "send_delay"]
    assert len(delays_ms) == 6
    assert max(delays_ms) - min(delays_ms) < 50
    # At least 20 ms each, 5.4 times 20 over all; wide, for a first check also connects.
    assert took_s < 2


@pytest.mark.chance
def test_every_state_has_its_name_and_none_holds_up_another(target: str, demo: DemoStack, silent: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = probe.getsockname()[1]
    vms = [
        Vm("up", "http", f"{target}/status/200"),
        Vm("moved", "http", f"{target}/redirect/302/1"),
        Vm("ill", "http", f"{target}/status/503"),
        Vm("missing", "http", f"{target}/status/404"),
        Vm("refusing", "http", f"http://127.0.0.1:{nobody}/"),
        Vm("hanging", "http", f"http://127.0.0.1:{silent}/"),
        Vm("breaking", "http", f"{target}/close"),
        Vm("nameless", "http", "http://no-such-host.invalid/"),
        Vm("redis", "redis", demo.redis_url),
        Vm("redis refusing", "redis", f"redis://127.0.0.1:{nobody}/0"),
        Vm("redis hanging", "redis", f"redis://127.0.0.1:{silent}/0"),
        Vm("redis at http", "redis", target.replace("http", "redis")),
    ]
    with Swarm(person(*vms, timeout=0.5)) as swarm:
        swarm.run()
    kinds = {event["name"]: type(event["exception"]).__name__ for event in swarm.requests}
    times_ms = {event["name"]: event["response_time"] for event in swarm.requests}
    assert kinds.pop("hanging") in ("AnswerTimeoutError", "TimeoutError")
    assert kinds.pop("redis hanging") == "TimeoutError"
    assert kinds.pop("redis at http") in ("ConnectionError", "InvalidResponse", "TimeoutError")
    assert kinds == {
        "up": "NoneType",
        "moved": "NoneType",
        "ill": "HttpStatusError",
        "missing": "HttpStatusError",
        "refusing": "ConnectionFailedError",
        "breaking": "ConnectionBrokenError",
        "nameless": kinds["nameless"],
        "redis": "NoneType",
        "redis refusing": "ConnectionError",
    }
    assert kinds["nameless"] in ("ConnectionFailedError", "ConnectTimeoutError", "TimeoutError")
    assert all(490 <= times_ms[name] < 1500 for name in ("hanging", "redis hanging"))
    assert times_ms["up"] < 450
    assert str(next(e["exception"] for e in swarm.requests if e["name"] == "ill")) == "HTTP 503"


def test_a_stop_in_the_middle_abandons_what_has_not_answered(target: str, silent: int) -> None:
    vms = [Vm("up", "http", f"{target}/status/200"), Vm("hanging", "http", f"http://127.0.0.1:{silent}/")]
    with Swarm(person(*vms), stop_timeout=0) as swarm:
        swarm.start()
        eventually(lambda: len(swarm.requests) == 1)
        swarm.stop()
    assert [event["name"] for event in swarm.abandoned] == ["hanging"]


def test_without_machines_the_test_stops_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    with Swarm(person()) as swarm:
        swarm.start()
        eventually(lambda: swarm.runner.state == "stopped")
    assert "no machines: list them under [[vms]]" in caplog.text
