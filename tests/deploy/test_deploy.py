"""What is shipped for machines and clusters, checked as far as that goes without one."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from asyncload_lib.settings import OPTIONS
from tests.locust_run import ROOT

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
UNITS = [path for path in FILES if path.suffix == ".service"]
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def documents() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text())


@pytest.fixture(name="locust_flags", scope="module")
def known_flags() -> set[str]:
    """Every flag that the real command knows."""
    done = subprocess.run(
        [sys.executable, "-m", "locust", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    return set(re.findall(r"--[a-z][a-z-]+", done.stdout))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_flag_and_variable_exists(path: Path, locust_flags: set[str]) -> None:
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    commands = re.findall(r"(?:ENTRYPOINT|CMD|command:|args:|ExecStart=)(.*)", text)

    assert {flag for command in commands for flag in re.findall(r"--[a-z][a-z-]+", command)} <= locust_flags
    known = {option.variable for option in OPTIONS.values()}
    assert set(re.findall(r"\bASYNCLOAD_[A-Z_]+", path.read_text())) <= known | {"ASYNCLOAD_"}
    assert all((ROOT / name).exists() for name in re.findall(r"locustfiles/\w+\.py", text))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_are_valid(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)

    # The one thing it may miss here is the program, which lies where the unit will be installed.
    problems = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert problems == []


def test_kubernetes_parts_find_each_other() -> None:
    by_kind = {document["kind"]: document for document in documents()}

    assert set(by_kind) == {"ConfigMap", "Deployment", "Job", "NetworkPolicy", "PersistentVolumeClaim", "Service"}
    job, deployment = by_kind["Job"]["spec"]["template"], by_kind["Deployment"]["spec"]["template"]
    assert by_kind["Service"]["spec"]["selector"] == job["metadata"]["labels"]
    assert by_kind["Deployment"]["spec"]["selector"]["matchLabels"] == deployment["metadata"]["labels"]
    worker, master = deployment["spec"]["containers"][0], job["spec"]["containers"][0]
    policy, port = by_kind["NetworkPolicy"]["spec"], by_kind["Service"]["spec"]["ports"][0]["port"]
    assert policy["podSelector"]["matchLabels"] == job["metadata"]["labels"]
    assert policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == deployment["metadata"]["labels"]
    assert policy["ingress"][0]["ports"][0]["port"] == port == master["ports"][0]["containerPort"]
    claim = job["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim == by_kind["PersistentVolumeClaim"]["metadata"]["name"]
    assert by_kind["Service"]["metadata"]["name"] in worker["args"]
    assert master["args"][-1] == str(by_kind["Deployment"]["spec"]["replicas"])
    for container in (worker, master):
        sources = {reference["name"] for source in container["envFrom"] for reference in source.values()}
        assert by_kind["ConfigMap"]["metadata"]["name"] in sources


def test_the_compose_file_starts_one_image_in_two_parts() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    master, worker = compose["services"]["master"], compose["services"]["worker"]

    assert master["image"] == worker["image"]
    assert (DEPLOY / master["build"]["context"] / master["build"]["dockerfile"]).resolve() == DEPLOY / "Containerfile"
    assert worker["command"][:3] == ["--worker", "--master-host", "127.0.0.1"]
    assert worker["network_mode"] == "service:master"  # the demo, and Locust's port, are on loopback
    assert not [service for service in (master, worker) if "ports" in service]
    assert worker["deploy"]["replicas"] == master["command"][-1]
    assert worker["environment"] == master["environment"]


def test_the_image_holds_what_a_run_needs() -> None:
    copied = set(re.findall(r"^COPY (\S+)", (DEPLOY / "Containerfile").read_text(), re.M))

    assert copied == {"requirements.txt", "asyncload_lib", "locustfiles", "templates"}
