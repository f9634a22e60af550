"""What CI makes of failures: a test of chance is looked at once more, any other failure stands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.locust_run import ROOT
from tests.logged_process import LEAN_PYTEST

CI = (ROOT / ".ci" / "run").read_text()


def test_what_tests_are_skipped_without_is_installed() -> None:
    programs = {
        program
        for path in (ROOT / "tests").rglob("*.py")
        for program in re.findall(r'which\("([\w-]+)"\) is None', path.read_text())
    }
    assert programs
    assert {program for program in programs if f"command -v {program} " not in CI} == set()


UNLUCKY = """
from pathlib import Path
import pytest

@pytest.mark.chance
def test_unlucky():
    seen = Path(__file__).with_name("seen")
    if len(seen.read_text() if seen.exists() else "") < FAILURES:
        with seen.open("a") as file:
            file.write("x")
        raise AssertionError("unlucky")

def test_sound():
    with Path(__file__).with_name("sound").open("a") as file:
        file.write("x")
"""
WRONG = """
def test_wrong():
    assert 1 == 2
"""


@pytest.mark.parametrize(
    ("failures", "more", "code", "looks"),
    [(1, "", 0, 1), (2, "", 1, 2), (1, WRONG, 1, 1)],
    ids=["unlucky once", "unlucky twice", "wrong"],
)
def test_only_chance_gets_a_second_look(failures: int, more: str, code: int, looks: int, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text(UNLUCKY.replace("FAILURES", str(failures)) + more)
    environment = {**os.environ, **LEAN_PYTEST, "PYTHON": sys.executable}

    first = subprocess.run(
        [sys.executable, "-m", "pytest"], cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False
    )
    assert first.returncode == 1
    second = subprocess.run(
        [ROOT / ".ci" / "second_look"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert second.returncode == code, second.stdout
    assert len((tests / "seen").read_text()) == looks
    assert (tests / "sound").read_text() == "x"  # what passed is not run again
    assert ("test_it.py::test_unlucky" in second.stdout) is (not more)
    assert ("test_it.py::test_wrong" in second.stdout) is bool(more)
