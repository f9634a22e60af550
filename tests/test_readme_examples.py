"""The README's code blocks are run as they stand; one that no test knows fails."""

import os
import re
import shlex
import socket
import socketserver
import subprocess
import sys
import threading
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from asyncload_lib.__main__ import _parser
from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.settings import OPTIONS
from asyncload_lib.verdict.grammar import problems
from tests.locust_run import ROOT, LocustRun

pytestmark = pytest.mark.chance

BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
MAKEFILE = (ROOT / "Makefile").read_text()

PYTHON = {
    "probe": "app.add_middleware(LoopProbe",
    "user": "class ChatUser(AsyncHttpUser)",
    "protocol": "class LineUser(AsyncUser)",
    "monitor": "async with LoopMonitor()",
    "fixture": "def test_answer(loop_must_not_block)",
}
"""What each Python example is told by."""


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


def example(name: str) -> str:
    (text,) = (text for text in blocks("python") if PYTHON[name] in text)
    return text


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_block_is_known() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "python", "toml", "yaml"}
    assert [[name for name, mark in PYTHON.items() if mark in text] for text in blocks("python")] == [
        [name] for name in PYTHON
    ]


def test_the_probe_is_mounted_and_answers(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text("from fastapi import FastAPI\n\napp = FastAPI()\n" + example("probe"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LOOP_PROBE_TOKEN": "secret"}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-m", "uvicorn", "service:app", "--fd", str(listening.fileno())]
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/asyncload/loop"
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, pass_fds=[listening.fileno()], stderr=subprocess.DEVNULL
        ) as service:
            try:
                request = urllib.request.Request(url, headers={"X-Asyncload-Token": "secret"})
                with urllib.request.urlopen(request, timeout=30) as answer:  # waits in the queue until it is up
                    assert "max_stall" in answer.read().decode()
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(url, timeout=30)
                refused.value.close()
            finally:
                service.terminate()


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


def test_the_users_load_a_target(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    quiet = {"ASYNCLOAD_LOOP_LIMIT": "30s", "ASYNCLOAD_GENERATOR_MAX_LOOP_LAG": "10s"}
    with (
        DemoStack(model_time_s=0.02, network_delay_s=0.001) as stack,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as lines,
    ):
        threading.Thread(target=lines.serve_forever, daemon=True).start()
        protocol = example("protocol").replace("7000", str(lines.server_address[1]))
        path.write_text(example("user") + protocol)
        options = ("--headless", "-u", "4", "-r", "4", "-t", "1s", "-H", stack.host)
        with LocustRun(path, *options, out=tmp_path / "reports", settings=quiet) as run:
            assert run.wait(60) == 0, run.output
            (metric,) = run.results["metrics"]
        answered = stack.ledger()["chat"]["answered"]
        lines.shutdown()
    counted = {row["name"]: row["total_requests"] for row in metric["endpoints"]}
    assert counted.keys() == {"/api/chat", "health", "echo"}
    assert counted["/api/chat"] == answered > 0
    assert counted["echo"] > 0


def test_the_monitor_names_what_blocked(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(example("monitor"))
    ended = python(program, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("False ")
    program.write_text("import time\n" + example("monitor").replace("await asyncio.sleep(0.1)", "time.sleep(0.1)"))
    ended = python(program, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "time.sleep(0.1)" in ended.stdout
    assert "'file': 'program.py'" in ended.stdout


def test_the_fixture_fails_what_blocks(tmp_path: Path) -> None:
    conftest, test = example("fixture").split("# test_answer.py\n")
    assert conftest.startswith("# conftest.py\n")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_waits.py").write_text(test)
    blocking = "import time\n" + test.replace("await asyncio.sleep(0.1)", "time.sleep(0.1)")
    (tmp_path / "test_blocks.py").write_text(blocking)
    options = ("-v", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", "/dev/null")
    ended = python("-m", "pytest", *options, cwd=tmp_path)
    assert ended.returncode == 1, ended.stdout
    outcomes = dict(re.findall(r"^(test_\w+)\.py::\S+ (PASSED|FAILED|ERROR)", ended.stdout, re.M))
    assert outcomes["test_waits"] == "PASSED", ended.stdout
    assert outcomes["test_blocks"] != "PASSED", ended.stdout
    assert "in answer: time.sleep(0.1)" in ended.stdout


def test_the_settings_hold() -> None:
    for text in blocks("toml"):
        assert problems(tomllib.loads(text)["criteria"]) == []


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


LINES = [line for text in blocks("sh") for line in text.splitlines() if words(line)]


@pytest.mark.parametrize("line", LINES)
def test_a_command_can_be_given(line: str, tmp_path: Path) -> None:
    program, *arguments = words(line)
    while "=" in program:
        variable, program, arguments = program.partition("=")[0], arguments[0], arguments[1:]
        assert variable in ("PYTHONPATH", "LOOP_PROBE_TOKEN", *(option.variable for option in OPTIONS.values()))
    if program == "make":
        assert_made(arguments)
    elif arguments[:2] == ["-m", "asyncload_lib"]:
        assert program == ".venv/bin/python"
        _parser().parse_args(arguments[2:])
    elif program != "uvicorn":
        assert program == ".venv/bin/locust"
        (tmp_path / "mine.py").write_text(example("user"))
        ended = python("-m", "locust", *arguments, "--list", cwd=tmp_path)  # reads all options, and the file
        assert ended.returncode == 0, ended.stderr


def assert_made(arguments: list[str]) -> None:
    target, *variables = arguments
    assert re.search(rf"^{target}:", MAKEFILE, re.M), target
    for variable in variables:
        name = variable.partition("=")[0]
        assert re.search(rf"\$\(call (given,|option,[\w-]+,){name}\)", MAKEFILE), variable


def test_the_workflow_makes_what_can_be_made() -> None:
    for text in blocks("yaml"):
        steps = yaml.safe_load(text)["jobs"]["loadtest"]["steps"]
        made = [words(step["run"]) for step in steps if step.get("run", "").startswith("make ")]
        assert made
        for _, *arguments in made:
            assert_made(arguments)


def test_error_kinds_are_those_of_reports() -> None:
    named = set(re.findall(r"`(\w+Error)`", (ROOT / "README.md").read_text()))
    kinds = set(re.findall(r"^class (\w+Error)\(", (ROOT / "asyncload_lib/users/transport.py").read_text(), re.M))
    assert named
    assert named - kinds == set()
