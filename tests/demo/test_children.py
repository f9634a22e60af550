"""Nothing of the demo stays behind, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.demo.processes import ROOT, still_there, wait_until

pytestmark = pytest.mark.chance

CALLER = """
import json, os, signal, sys, time
from asyncload_lib.demo.stack import DemoStack
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in the background has it ignored
with DemoStack() as stack:
    fork = os.fork() if "fork" in sys.argv else None
    if fork == 0:
        os.closerange(0, 3)
        time.sleep(60)
        os._exit(0)
    try:
        print(json.dumps(stack.pids | {"fork": fork}), flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(1)  # a report takes its time
        stack.reset_ledger()
        print("report written", stack.ledger()["chat"]["received"], flush=True)
"""


@contextmanager
def _caller(*arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", dict[str, int | None]]]:
    """Run a process that has a demo; yield it and the demo's processes."""
    command = [sys.executable, "-c", CALLER, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True) as caller:
        try:
            assert caller.stdout is not None
            yield caller, json.loads(caller.stdout.readline())
        finally:
            caller.kill()


def _everything_is_gone(pids: Mapping[str, int | None], tmp: Path) -> bool:
    return wait_until(lambda: not still_there(filter(None, pids.values())) and not list(tmp.iterdir()))


def test_nothing_stays_when_the_supervisor_is_killed(private_tmp: Path) -> None:
    with DemoStack() as stack:
        os.kill(stack.pids["supervisor"], signal.SIGKILL)
        assert _everything_is_gone(stack.pids, private_tmp)
        assert wait_until(lambda: "code -9" in str(stack.failure()))


def test_nothing_stays_when_the_caller_is_killed(private_tmp: Path) -> None:
    with _caller() as (caller, pids):
        caller.kill()
        assert _everything_is_gone(pids, private_tmp)


def test_nothing_stays_when_the_caller_is_killed_and_its_fork_holds_the_lifeline(private_tmp: Path) -> None:
    with _caller("fork") as (caller, pids):
        fork = pids.pop("fork")
        assert fork is not None
        try:
            caller.kill()
            assert _everything_is_gone(pids, private_tmp)
        finally:
            os.kill(fork, signal.SIGKILL)


def test_ctrl_c_reaches_the_caller_alone_which_still_has_its_target(private_tmp: Path) -> None:
    with _caller() as (caller, pids):
        os.killpg(caller.pid, signal.SIGINT)
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"report written 0\n"
        assert caller.wait(10) == 0
        assert _everything_is_gone(pids, private_tmp)


@pytest.mark.parametrize("role", ["backend", "redis"])
def test_a_killed_child_ends_the_rest_and_is_named(role: str, private_tmp: Path) -> None:
    with DemoStack() as stack:
        os.kill(stack.pids[role], signal.SIGKILL)
        assert _everything_is_gone(stack.pids, private_tmp)
        assert stack.failure() == f"{role} (process {stack.pids[role]}) was ended by SIGKILL"


def test_a_warning_of_the_supervisors_interpreter_is_no_failure(private_tmp: Path) -> None:
    with DemoStack() as stack:
        Path(f"/proc/{stack.pids['supervisor']}/fd/2").write_text("DeprecationWarning: soon\n")
        assert stack.failure() is None
        os.kill(stack.pids["redis"], signal.SIGKILL)
        assert wait_until(lambda: stack.failure() is not None)
        assert stack.failure() == f"redis (process {stack.pids['redis']}) was ended by SIGKILL"


def test_a_killed_child_is_named_before_the_rest_has_ended(private_tmp: Path) -> None:
    with DemoStack() as stack:
        os.kill(stack.pids["vms"], signal.SIGSTOP)  # it will not end by itself
        os.kill(stack.pids["redis"], signal.SIGKILL)
        assert wait_until(lambda: stack.failure() is not None, timeout_s=1.5)
        assert len(still_there(stack.pids.values())) > 1
    assert _everything_is_gone(stack.pids, private_tmp)


def test_a_child_that_ignores_the_signal_is_killed(private_tmp: Path) -> None:
    with DemoStack() as stack:
        os.kill(stack.pids["vms"], signal.SIGSTOP)
        began = time.monotonic()
    assert time.monotonic() - began < 7  # later, the caller gives the supervisor up and kills it
    assert _everything_is_gone(stack.pids, private_tmp)
