"""Every make target, run as its user runs it, in an environment that needs no installation."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.demo.processes import in_session, still_there, wait_until
from tests.locust_run import ROOT, eventually
from tests.logged_process import LoggedProcess
from tests.results.sample import sample_results

pytestmark = pytest.mark.chance

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.M))
VARIABLES = sorted(set(re.findall(r"\$\(call (?:given|option,[a-z-]+),([A-Z_]+)\)", MAKEFILE)))
IN_CI = {"lint"}
"""What no test runs, for .ci/run does, with these words."""


class make(LoggedProcess):  # noqa: N801 - reads as the command does
    """One `make` process in the environment of this one."""

    def __init__(self, target: str, *variables: str, log: Path, env: Mapping[str, str] | None = None) -> None:
        ready = [f"{sys.prefix}/bin/.runtime", f"{sys.prefix}/bin/.development"]
        command = ["make", f"VENV={sys.prefix}", *(word for path in ready for word in ("-o", path)), target, *variables]
        of_others = [word for name in VARIABLES if name not in (env or {}) for word in ("-u", name)]
        super().__init__(["env", *of_others, *command], ROOT, log, env or {})

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for the end; return the exit code of the command, as make's last line tells it."""
        code = super().wait(timeout_s)
        told = re.search(r"^make: \*\*\* .*Error (\d+)$", self.output, re.M)
        return int(told[1]) if told else code

    def interrupt(self) -> None:
        """Do what Ctrl-C in a terminal does."""
        self.send(signal.SIGINT, group=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def master_port() -> dict[str, str]:
    """Return Locust's variables for a master's port that nobody else uses."""
    (port,) = free_ports(1)
    return {"LOCUST_MASTER_BIND_PORT": str(port), "LOCUST_MASTER_NODE_PORT": str(port)}


def quick(out: Path, scenario: str) -> Sequence[str]:
    return (f"SCENARIOS={scenario}", f"OUT={out}")


def reported(out: Path) -> dict[str, Any]:
    (path,) = out.glob("async_load_test_results_*.json")
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def test_every_target_is_run_here_or_by_ci() -> None:
    here = set(re.findall(r'(?:\bmake\(|"make", )"([a-z]+)"', Path(__file__).read_text()))
    by_ci = {target for target in IN_CI if re.search(rf"^make {target}$", (ROOT / ".ci" / "run").read_text(), re.M)}

    assert here | by_ci == TARGETS
    assert by_ci == IN_CI


def test_help(tmp_path: Path) -> None:
    with make("help", log=tmp_path / "log") as made:
        assert made.wait() == 0
    assert set(re.findall(r"^    ([a-z]+) +\S", made.output, re.M)) == TARGETS


SETTINGS = {"CONFIG", "HOST", "OUT", "USERS", "RUN_TIME", "SCENARIOS", "DEMO_MODE"}
LOADS = {
    "loadtest": {*SETTINGS, "PROCESSES"},
    "worker": {*SETTINGS, "MASTER", "PROCESSES"},
    "master": {*SETTINGS, "WORKERS"},
    "ui": {*SETTINGS, "LOCUSTFILE"},
    "demo": {"CONFIG", "DEMO_MODE"},
}
TAKES = {
    **LOADS,
    "report": {"RESULTS"},
    "compare": {"A", "B", "FORCE"},
    "bench": {"QUICK"},
}
TAKEN = sorted((target, name) for target, names in TAKES.items() for name in names)


def test_every_variable_is_known_here() -> None:
    assert sorted({name for _, name in TAKEN}) == VARIABLES


@pytest.mark.parametrize("target", LOADS)
def test_a_variable_that_a_target_would_not_heed_is_refused(target: str, tmp_path: Path) -> None:
    others = sorted(set().union(*LOADS.values()) - LOADS[target])
    with make(target, *(f"{name}=1" for name in others), "-n", log=tmp_path / "log") as made:
        assert made.wait() == 2, made.output
    (told,) = re.findall(rf'\*\*\* "make {target}" does not take ([A-Z_ ]+), only ([A-Z_ ]+)\.', made.output)
    assert [sorted(names.split()) for names in told] == [others, sorted(LOADS[target])]


@pytest.mark.parametrize(("target", "name"), TAKEN)
def test_a_variable_that_is_empty_is_refused(target: str, name: str, tmp_path: Path) -> None:
    others = ("A=a", "B=b") if target == "compare" and name == "FORCE" else ()
    with make(target, f"{name}=", *others, "-n", log=tmp_path / "log") as made:
        assert made.wait() == 2, made.output
    assert re.search(rf"^Makefile:\d+: \*\*\* {name} is empty: ", made.output, re.M)


def test_a_variable_of_the_environment_is_taken_unless_it_is_empty(tmp_path: Path) -> None:
    given = {name: f"http://{name}" for name in TAKES["loadtest"]}
    with make("loadtest", "-n", log=tmp_path / "log", env=given) as made:
        assert made.wait() == 0, made.output
    assert [value for value in given.values() if f"'{value}'" not in made.output] == []
    with make("loadtest", "-n", log=tmp_path / "empty", env={"CONFIG": " "}) as made:
        assert made.wait() == 2, made.output
    assert "*** CONFIG is empty: " in made.output


def test_a_host_that_the_environment_has_by_chance_is_refused(tmp_path: Path) -> None:
    with make("loadtest", "-n", log=tmp_path / "log", env={"HOST": "x86_64-conda-linux-gnu"}) as made:
        assert made.wait() == 2, made.output
    assert "*** HOST=x86_64-conda-linux-gnu comes from the environment and is not a URL" in made.output


def test_a_variable_of_the_environment_is_nothing_to_a_target_that_does_not_take_it(tmp_path: Path) -> None:
    with make("compare", "A=a", "B=b", "-n", log=tmp_path / "log", env={"HOST": "x86_64-conda-linux-gnu"}) as made:
        assert made.wait() == 0, made.output


def test_a_value_with_a_space_or_a_quote_reaches_the_command_whole(tmp_path: Path) -> None:
    variables = ("SCENARIOS=chat, nothing", "USERS=it's 3", "RUN_TIME=10 s; exit 0", "DEMO_MODE=a b")
    with make("loadtest", *variables, log=tmp_path / "log") as made:
        assert made.wait() == 64, made.output
    for value in ("'nothing' is unknown", '"it\'s 3"', "'10 s; exit 0'", "'a b'"):
        assert value in made.output


def test_test(tmp_path: Path) -> None:
    env = {"PYTEST_ADDOPTS": "tests/results/test_text.py -p no:cacheprovider"}
    with make("test", log=tmp_path / "log", env=env) as made:
        assert made.wait() == 0, made.output
    assert re.search(r"^=+ \d+ passed in ", made.output, re.M)


def test_loadtest_in_two_processes(tmp_path: Path) -> None:
    out = tmp_path / "reports"
    with make("loadtest", "PROCESSES=2", *quick(out, "vm_health"), log=tmp_path / "log", env=master_port()) as made:
        assert made.wait() in (0, 3, 6), made.output
    results = reported(out)
    assert len(results["workers"]) == 2
    assert results["metrics"][0]["total_requests"] == 6
    command = f"{sys.prefix}/bin/python -m locust -f locustfiles/suite.py --headless "
    assert results["run"]["command"].startswith(command)


def test_master_and_worker(tmp_path: Path) -> None:
    out, env = tmp_path / "reports", master_port()
    scenario, _ = quick(out, "redis")
    with (
        make("master", "WORKERS=2", *quick(out, "redis"), log=tmp_path / "master", env=env) as master,
        make("worker", "MASTER=127.0.0.1", "PROCESSES=2", scenario, log=tmp_path / "worker", env=env) as worker,
    ):
        assert master.wait() in (0, 3, 6), master.output
        assert worker.wait() == 0, worker.output
    assert [row["state"] for row in reported(out)["workers"]] == ["complete"] * 2
    assert reported(out)["metrics"][0]["total_requests"] == 100


@pytest.mark.parametrize(("target", "variable"), [("loadtest", "PROCESSES=2"), ("master", "WORKERS=1")])
def test_a_master_whose_port_is_taken_says_so_and_leaves_nobody_behind(
    target: str, variable: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        env = {"LOCUST_MASTER_BIND_PORT": str(port), "LOCUST_MASTER_NODE_PORT": str(port)}
        with make(target, variable, f"OUT={tmp_path / 'reports'}", log=tmp_path / "log", env=env) as made:
            assert made.wait() == 64, made.output
            assert wait_until(lambda: in_session(made.process.pid) == [])

    assert re.search(rf"^asyncload: --master-bind-port is {port}, .*: Address already in use; ", made.output, re.M)
    assert "Traceback" not in made.output


def test_ui(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    env = {"LOCUST_WEB_PORT": str(port)}
    with make("ui", f"OUT={tmp_path / 'reports'}", "USERS=80", "RUN_TIME=90s", log=tmp_path / "log", env=env) as made:

        def page() -> str:
            assert made.process.poll() is None, made.output
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                    text: str = answer.read().decode()
            except OSError:
                return ""
            return text

        text = eventually(page, 60)
        assert "<title>Locust" in text
        assert re.search(r'"num_users": 80\b', text)  # what its form begins with
        assert re.search(r'"run_time": 90\b', text)
        made.interrupt()
        made.wait()


@pytest.mark.parametrize(
    ("locustfile", "option"),
    [("locustfiles/suite.py", "--asyncload-chat-users"), ("/home/me/test-suite/mine.py", "--users")],
)
def test_users_in_the_ui_are_those_of_the_chat_only_in_the_suite(locustfile: str, option: str, tmp_path: Path) -> None:
    with make("ui", f"LOCUSTFILE={locustfile}", "USERS=20", "-n", log=tmp_path / "log") as made:
        assert made.wait() == 0, made.output
    assert re.findall(r"(\S+)='20'", made.output) == [option]


def test_demo(tmp_path: Path) -> None:
    config = tmp_path / "demo.toml"
    config.write_text('[demo]\nmodel_time = "10ms"\n')
    with make("demo", f"CONFIG={config}", "DEMO_MODE=blocking", log=tmp_path / "log") as made:
        line = eventually(lambda: re.search(r"^\{.*\}$", made.output, re.M), 60)
        ready = json.loads(line[0])
        with urllib.request.urlopen(f"{ready['host']}/api/health", timeout=10) as answer:
            assert json.load(answer)["mode"] == "blocking"
        made.interrupt()
        made.wait()
    assert ready["simulated"]["model_time"] == 0.01
    assert wait_until(lambda: still_there(ready["pids"].values()) == [])


def test_report_and_compare(tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    results = sample_results()
    before.write_text(json.dumps(results))
    after.write_text(json.dumps(results | {"run": results["run"] | {"seed": 2}}))
    out = tmp_path / "reports"
    with make("report", f"RESULTS={before}", f"OUT={out}", log=tmp_path / "log") as made:
        assert made.wait() == 0, made.output
    assert {path.suffix for path in out.iterdir()} == {".html", ".md", ".xml"}
    for variables, code in ([], 64), ([f"B={before}"], 0), ([f"B={after}"], 64), ([f"B={after}", "FORCE=1"], 0):
        with make("compare", f"A={before}", *variables, log=tmp_path / "log") as made:
            assert made.wait() == code, made.output


def test_bench(tmp_path: Path) -> None:
    """Too long to be run: that it would be, and that the command knows its options."""
    with make("bench", "QUICK=1", "-n", log=tmp_path / "log") as made:
        assert made.wait() == 0, made.output
    program, *arguments = made.output.split()
    assert (program, arguments) == (f"{sys.prefix}/bin/python", ["-m", "bench", "--quick"])
    subprocess.run([sys.executable, *arguments, "--help"], cwd=ROOT, capture_output=True, timeout=60, check=True)


def test_an_environment_that_was_moved_with_its_checkout_still_runs(tmp_path: Path) -> None:
    made, moved = tmp_path / "made", tmp_path / "moved"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], timeout=60, check=True)
    (packages,) = made.glob("lib/python*/site-packages")
    (packages / "of_this_one.pth").write_text(sysconfig.get_path("purelib"))
    (made / "bin" / "locust").write_text(f"#!{made}/bin/python\nfrom locust.main import main\nmain()\n")
    (made / "bin" / "locust").chmod(0o755)
    made.rename(moved)
    environment = (f"VENV={moved}", "-o", f"{moved}/bin/.runtime")
    for target, variable, told in (
        ("loadtest", "SCENARIOS=nothing", "'nothing' is unknown"),
        ("ui", "LOCUSTFILE=locustfiles/nothing.py", "Could not find 'locustfiles/nothing.py'"),
    ):
        with make(target, variable, *environment, log=tmp_path / "log") as process:
            assert process.wait() in (1, 64), process.output
        assert told in process.output


def test_clean(tmp_path: Path) -> None:
    """In a folder of its own, where nothing is lost."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    made = {".venv/bin/python", "reports/performance/latest.json", "bench/results/x.json", "room/__pycache__/x.pyc"}
    kept = {"Makefile", "room/x.py", "reports/example/report.md"}
    for name in made | kept - {"Makefile"}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    # Without the class above, which names the real environment.
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == kept
