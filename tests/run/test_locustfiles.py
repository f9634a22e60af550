"""Every locustfile that is shown, as its user runs it: one report, and the counts are the target's own."""

import socket
from pathlib import Path

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.distributed.accounts import differences, operations
from tests.locust_run import ROOT, LocustRun, target_settings

pytestmark = pytest.mark.chance

ENDPOINTS = {
    "chat.py": {"POST": {"/api/chat", "/api/chat/stream"}},
    "files.py": {"FILE": {"write+read"}},
    "mixed.py": {"FILE": {"write+read"}, "REDIS": {"set+get"}},
    "redis_ops.py": {"REDIS": {"set+get"}},
    "vm_health.py": {"VM": {"Main", "Frontend", "NPU", "Redis", "AI-Stack", "Browser"}},
}
"""What each of them loads: request type -> names."""

PROCESSES = [("chat.py", 1), ("files.py", 1), ("mixed.py", 2), ("redis_ops.py", 1), ("vm_health.py", 1)]
"""How many processes run each of them; that of users of two kinds is shared out."""

QUIET = {
    "ASYNCLOAD_LOOP_LIMIT": "30s",
    "ASYNCLOAD_GENERATOR_MAX_LOOP_LAG": "10s",
    "ASYNCLOAD_GENERATOR_MAX_HUB_LAG": "10s",
}
"""A busy test machine must not decide the exit code; what is left to judge are errors and seconds."""


def test_every_locustfile_is_run() -> None:
    shown = {path.name for path in (ROOT / "locustfiles").glob("*.py")}
    assert shown == ENDPOINTS.keys() | {"suite.py"}  # which is run by test_suite
    assert {file for file, _ in PROCESSES} == ENDPOINTS.keys()


@pytest.mark.parametrize(("locustfile", "processes"), PROCESSES)
def test_a_locustfile_reports_once_what_the_target_counted(
    locustfile: str, processes: int, tmp_path: Path, stack: DemoStack
) -> None:
    out, files = tmp_path / "reports", tmp_path / "files"
    files.mkdir()
    settings = {**target_settings(stack), **QUIET, "ASYNCLOAD_FILES_DIRECTORY": str(files)}
    options = ["--headless", "-u", "4", "-r", "4", "-t", "1s" if processes == 1 else "3s"]  # two share a machine
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        options += ["--processes", str(processes), "--master-bind-host", "127.0.0.1"]
        options += ["--master-bind-port", port, "--master-port", port]
    with LocustRun(locustfile, *options, out=out, settings=settings) as run:
        assert run.wait(60) == 0, run.output
        results, ledger = run.results, stack.ledger()

    assert {path.suffix for path in out.glob("async_load_test_report_*")} == {".html", ".md", ".xml"}
    assert len(list(out.glob("async_load_test_report_*"))) == 3
    (metric,) = results["metrics"]
    found: dict[str, set[str]] = {}
    for endpoint in metric["endpoints"]:
        found.setdefault(endpoint["type"], set()).add(endpoint["name"])
    assert found == ENDPOINTS[locustfile]
    assert differences(results, ledger) == []
    assert operations(results, "VM") == 6 * ledger["redis"]["commands"].get("ping", 0)
    assert metric["failed_requests"] == 0
    assert list(files.iterdir()) == []
    assert len(results["workers"]) == processes
    assert min(worker["operations"] for worker in results["workers"]) > 0
