"""The patched process when a test ends it: that test fails alone, and the others are still known by name."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from tests import patched
from tests.locust_run import ROOT
from tests.logged_process import LEAN_PYTEST

# Indented, for an import at the start of a line here would send this module there.
FIRST = textwrap.dedent("""
    import os
    import gevent
    import pytest

    def test_before():
        assert gevent

    @pytest.mark.chance
    def test_that_ends_the_process():
        os._exit(7)

    def test_behind():
        assert gevent

    def test_that_is_left_out():
        pytest.skip("there is no such thing here")

    @pytest.mark.parametrize("number", [PARAMETER])
    def test_with_a_parameter(number):
        assert gevent
""")
SECOND = textwrap.dedent("""
    import gevent

    def test_in_another_module():
        assert gevent
""")


def run(directory: Path, parameter: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a suite of two modules that belong into the patched process, with this one's conftest."""
    tests = directory / "tests"
    tests.mkdir()
    for name in ("__init__.py", "conftest.py", "patched.py"):
        shutil.copy(ROOT / "tests" / name, tests)
    shutil.copy(ROOT / "pyproject.toml", directory)
    (tests / "test_first.py").write_text(FIRST.replace("PARAMETER", parameter))
    (tests / "test_second.py").write_text(SECOND)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *options]
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **LEAN_PYTEST},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def outcomes(printed: str) -> dict[str, str]:
    return dict(re.findall(r"^tests/\w+\.py::(\S+) (PASSED|FAILED|SKIPPED)", printed, re.M))


def test_a_test_that_ends_the_process_fails_alone(tmp_path: Path) -> None:
    ended = run(tmp_path, "1")

    assert outcomes(ended.stdout) == {
        "test_before": "PASSED",
        "test_that_ends_the_process": "FAILED",
        "test_behind": "PASSED",
        "test_that_is_left_out": "SKIPPED",
        "test_with_a_parameter[1]": "PASSED",
        "test_in_another_module": "PASSED",
    }
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED
    assert "the patched process has ended with code 7" in ended.stdout
    assert re.search(r"^SKIPPED \[1\] tests/test_first.py:\d+: there is no such thing here$", ended.stdout, re.M)


def test_another_collection_after_that_is_told_once_and_in_one_sentence(tmp_path: Path) -> None:
    ended = run(tmp_path, "os.getpid()")

    assert outcomes(ended.stdout) == {"test_before": "PASSED", "test_that_ends_the_process": "FAILED"}
    assert ended.returncode == pytest.ExitCode.INTERRUPTED  # which .ci/run takes for no matter of chance
    told = [line for line in ended.stdout.splitlines() if "collects other tests than before" in line]
    assert len(told) == 1
    assert len(re.findall(r"tests/test_first\.py::test_with_a_parameter\[\d+\]", told[0])) == 2
    assert "test_behind" not in told[0]
    assert "KeyError" not in ended.stdout + ended.stderr


def test_marks_of_the_process_show_here(tmp_path: Path) -> None:
    chosen = run(tmp_path, "1", "--collect-only", "-m", "chance").stdout

    assert re.findall(r"<PatchedItem (\S+)>", chosen) == ["test_that_ends_the_process"]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    assert {line.partition(":")[0] for line in declared} == patched.MARKS
