"""The tests that need Locust, in a process of their own.

`import locust` replaces threads, sockets and clocks of its process. So every test module that imports it, gevent, or a
room of asyncload_lib that does, runs in one child process which imports locust first, as the `locust` command does. The
child is a pytest that streams its reports; here they appear as if the tests had run here, and `-k`, `-x`, `::name` and
the summary work as for all others.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["IN_CHILD", "Child", "PatchedFile", "PatchedItem", "Reporter", "needs_locust"]

TESTS = Path(__file__).parent
PIPES = "ASYNCLOAD_TESTS_PIPES"
IN_CHILD = PIPES in os.environ
TEST_TIMEOUT_S = 60
MARKS = frozenset({"chance"})
"""What a test of the child may be marked with so that it shows here."""

_NEEDS_LOCUST = re.compile(
    r"^(?:from|import) (?:locust|gevent|asyncload_lib\.(?:users|plugin|suite|free_run|eventloop\.thread"
    r"|run\.(?:participant|coordinator|director|health|observer|session|signals|target_source)))\b",
    re.MULTILINE,
)


def needs_locust(path: Path) -> bool:
    """Say whether a test module belongs into the patched process."""
    return _NEEDS_LOCUST.search(path.read_text("utf-8")) is not None


class Child:
    """The patched process, seen from here; started when the first of its modules is collected."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: dict[str, str] = {}
        self._collected: list[tuple[str, list[str]]] = []

    def items(self, nodeid: str) -> list[tuple[str, list[str]]]:
        """Return (name, marks) of the tests of a module; raises CollectError."""
        if self._process is None:
            self._start()
        if nodeid in self._errors:
            raise pytest.Collector.CollectError(self._errors[nodeid])
        prefix = f"{nodeid}::"
        return [(name.removeprefix(prefix), marks) for name, marks in self._collected if name.startswith(prefix)]

    def reports(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[pytest.TestReport]:
        """Have the child run one test, and yield its reports as they come; the next one decides which fixtures stay.

        The child does not run ahead: two tests at once would disturb each other's clocks. A test that ends the child
        fails, and those behind it get a new one.
        """
        following = nextitem.nodeid if isinstance(nextitem, PatchedItem) else None
        with contextlib.suppress(BrokenPipeError):  # it has ended since its last report: told below
            self._to_child.write(json.dumps([item.nodeid, following]).encode() + b"\n")
        while True:
            line = self._from_child.readline()
            if not line:
                yield self._death(item)
                self._restart()
                return
            message = json.loads(line)
            if message["nodeid"] != item.nodeid:  # of a test that was given up here
                continue
            data = message["report"]
            if isinstance(data["longrepr"], list):  # file, line and reason of a skip: JSON knows no tuples
                data["longrepr"] = tuple(data["longrepr"])
            yield self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
            if data["when"] == "teardown":
                return

    def stop(self) -> None:
        """End the process; what it has not run stays so."""
        if self._process is not None:
            self._to_child.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._from_child.close()
            self._log.close()

    def _restart(self) -> None:
        """Get a new process; what it collects must be what the one before did, for so the tests are asked for."""
        before = {name for name, _ in self._collected}
        self.stop()
        self._start()
        if other := before ^ {name for name, _ in self._collected}:
            pytest.exit(
                "the patched process was started anew and collects other tests than before (is there a port, a time or "
                f"an address in a parameter's id?): {', '.join(sorted(other))}",
                returncode=pytest.ExitCode.INTERRUPTED,
            )

    def _start(self) -> None:
        order_read, order_write = os.pipe()
        report_read, report_write = os.pipe()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        modules = [str(path) for path in sorted(TESTS.rglob("test_*.py")) if needs_locust(path)]
        program = "import sys, locust, pytest; sys.exit(pytest.main(sys.argv[1:]))"
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", program, "-p", "no:cacheprovider", "-o", f"timeout={TEST_TIMEOUT_S}"),
                *("-W", "ignore:Module already imported so cannot be rewritten; locust"),
                *modules,
            ],
            cwd=TESTS.parent,
            env={**os.environ, PIPES: f"{order_read},{report_write}", "PYTHONPATH": str(TESTS.parent)},
            pass_fds=(order_read, report_write),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        os.close(order_read)
        os.close(report_write)
        self._to_child = os.fdopen(order_write, "wb", buffering=0)
        self._from_child = os.fdopen(report_read)
        for line in self._from_child:
            message = json.loads(line)
            if "error" in message:
                self._errors[message["nodeid"]] = message["error"]
            else:
                self._collected = message["collected"]
                return
        raise pytest.UsageError(f"the patched process did not start:\n{self._said()}")

    def _death(self, item: pytest.Item) -> pytest.TestReport:
        assert self._process is not None
        why = f"the patched process has ended with code {self._process.wait()}:\n{self._said()}"
        return pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-5000:]


class PatchedFile(pytest.File):
    """A test module that is not imported here."""

    def collect(self) -> Iterator["PatchedItem"]:
        for name, marks in self.config.stash[CHILD].items(self.nodeid):
            item = PatchedItem.from_parent(self, name=name)
            for mark in marks:
                item.add_marker(mark)
            yield item


class PatchedItem(pytest.Item):
    """A test that the child runs."""

    def runtest(self) -> None:
        raise NotImplementedError("run_protocol stands for all three phases")

    def run_protocol(self, nextitem: pytest.Item | None) -> None:
        hook = self.ihook
        hook.pytest_runtest_logstart(nodeid=self.nodeid, location=self.location)
        for report in self.config.stash[CHILD].reports(self, nextitem):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=self.nodeid, location=self.location)
        # What the test before this one left set up for it, as for any other; no hook does only that.
        self.session._setupstate.teardown_exact(nextitem)


CHILD = pytest.StashKey[Child]()


class Reporter:
    """The other end, a plugin of the child's pytest."""

    def __init__(self, config: pytest.Config) -> None:
        order, report = (int(number) for number in os.environ[PIPES].split(","))
        os.set_inheritable(order, False)
        os.set_inheritable(report, False)
        self._config = config
        self._order = os.fdopen(order)
        self._out = os.fdopen(report, "w")

    def _send(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message, default=str) + "\n")
        self._out.flush()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._send({"nodeid": report.nodeid, "error": str(report.longrepr)})

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        rows = [(item.nodeid, sorted({m.name for m in item.iter_markers()} & MARKS)) for item in session.items]
        self._send({"collected": rows})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        known = {item.nodeid: item for item in session.items}
        for line in self._order:
            nodeid, following = json.loads(line)
            item, next_item = known[nodeid], known[following] if following else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_item)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._send({"nodeid": report.nodeid, "report": data})
