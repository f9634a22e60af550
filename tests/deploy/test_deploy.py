"""What is shipped for machines and clusters, checked as far as that goes without one."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

import asyncload_lib
from asyncload_lib.report.render import TEMPLATES
from asyncload_lib.settings import OPTIONS, from_sources
from asyncload_lib.vm_list import Vm
from tests.demo.processes import started
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


KUBERNETES = "1.29"
"""Of the versions whose schemas the validator ships, an old one that clusters still run."""


@pytest.mark.parametrize("document", [*documents()], ids=lambda document: document["kind"])
def test_kubernetes_takes_every_document(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_mistake_in_a_manifest_is_found() -> None:
    (deployment,) = (document for document in documents() if document["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePulPolicy"):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def test_a_cluster_uses_the_image_that_was_built_and_brought_to_it() -> None:
    parts = [
        document["spec"]["template"]["spec"] for document in documents() if document["kind"] in ("Job", "Deployment")
    ]

    assert [container["imagePullPolicy"] for part in parts for container in part["containers"]] == ["IfNotPresent"] * 2


COMPOSE = DEPLOY / "compose.yaml"


def interpolated(text: str) -> str:
    """Return the compose file as it is without any variable; what is a number then is one, as for compose itself."""
    return re.sub(r'(replicas: )"(\d+)"', r"\1\2", re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


def test_compose_takes_its_file() -> None:
    parsed = PyCompose.from_yaml(interpolated(COMPOSE.read_text()))
    parsed.validate()
    assert parsed.service_names() == ["master", "worker", "demo"]


def test_a_mistake_in_the_compose_file_is_found() -> None:
    with pytest.raises(ValueError, match="netwrk_mode"):
        PyCompose.from_yaml(interpolated(COMPOSE.read_text()).replace("network_mode", "netwrk_mode"))


def test_the_compose_file_starts_one_image_in_three_parts() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    master, worker, demo = services["master"], services["worker"], services["demo"]

    assert {service["image"] for service in services.values()} == {master["image"]}
    assert (DEPLOY / master["build"]["context"] / master["build"]["dockerfile"]).resolve() == DEPLOY / "Containerfile"
    assert worker["command"][:3] == ["--worker", "--master-host", "127.0.0.1"]
    # The demo, and Locust's port, are on loopback.
    assert worker["network_mode"] == demo["network_mode"] == "service:master"
    assert not [service for service in services.values() if "ports" in service]
    assert worker["deploy"]["replicas"] == master["command"][-1]
    assert worker["env_file"] == master["env_file"] == ["${SETTINGS:-demo.env}"]
    assert demo["env_file"] == ["demo.env"]
    # Each check is a process of its own beside what is measured: no Python. Old engines know no `start_interval`.
    assert demo["healthcheck"]["test"][:2] == ["CMD", "bash"]
    assert "start_interval" not in demo["healthcheck"]


def test_the_reports_of_the_compose_file_lie_where_the_user_of_the_image_may_write() -> None:
    """On a fresh clone: a directory beside the file would be made by root."""
    compose, image = yaml.safe_load(COMPOSE.read_text()), (DEPLOY / "Containerfile").read_text()
    (mount,) = compose["services"]["master"]["volumes"]
    volume, directory = mount.split(":")
    home = re.findall(r"^WORKDIR (\S+)$", image, re.M)[-1]
    user = re.findall(r"^USER (\S+)$", image, re.M)[-1]

    assert volume in compose["volumes"]
    # A new volume takes contents and owner from the image.
    assert directory == f"{home}/{OPTIONS['out'].default}"
    made = f"mkdir -p {OPTIONS['out'].default} && chown -R {user} reports"
    assert image.index(f"RUN {made}\n") < image.index(f"USER {user}")
    (told,) = re.findall(r"^#   (docker compose .* cp .*)$", COMPOSE.read_text(), re.M)
    assert told.endswith(f" cp master:{directory} reports")
    assert f"`{told}`" in (ROOT / "README.md").read_text()


def test_the_reports_of_the_systemd_master_lie_where_its_user_may_write() -> None:
    unit = (DEPLOY / "systemd" / "asyncload-master.service").read_text()
    (state,) = re.findall(r"^StateDirectory=(\S+)$", unit, re.M)
    (out,) = re.findall(r"^Environment=.*\bASYNCLOAD_OUT=(\S+)", unit, re.M)

    assert out == f"/var/lib/{state}"
    assert "ProtectSystem=strict" in unit
    assert "ReadWritePaths=/opt" not in unit


def test_the_demo_of_the_compose_file_listens_where_its_settings_say() -> None:
    demo = yaml.safe_load(COMPOSE.read_text())["services"]["demo"]
    first = first_of_free_ports(8)
    # Port 8001 may be taken here: the same, moved.
    written = (DEPLOY / "demo.env").read_text()
    moved = re.sub(r":80(\d\d)", lambda port: f":{first - 1 + int(port[1])}", written)
    variables = dict(line.split("=", 1) for line in moved.splitlines() if not line.startswith("#"))
    environment = {**os.environ, **variables}
    settings = from_sources({}, variables)
    program, *arguments = [str(first) if word == "8001" else word for word in demo["entrypoint"]]
    assert program == "python"

    with started([sys.executable, *arguments], environment) as (_, ready):
        _, *check = [word.replace("8001", str(first)) for word in demo["healthcheck"]["test"]]
        subprocess.run(check, timeout=20, check=True)
        lame = [word.replace("/api/chat/health", "/nothing") for word in check]
        assert subprocess.run(lame, timeout=20, check=False).returncode == 1
    assert subprocess.run(check, timeout=20, check=False, stderr=subprocess.DEVNULL).returncode == 1

    assert (ready["host"], ready["blocking_host"]) == (settings.host, settings.baseline.host)
    assert (ready["redis_url"], ready["probe_token"]) == (settings.redis.url, settings.loop.probe_token)
    assert tuple(Vm(**vm) for vm in ready["vms"]) == settings.vms


def first_of_free_ports(count: int) -> int:
    for first in range(20_000, 30_000, count):
        with contextlib.ExitStack() as sockets:
            try:
                for port in range(first, first + count):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return first
    raise AssertionError("no free ports")


def test_the_image_holds_what_a_run_needs() -> None:
    image = (DEPLOY / "Containerfile").read_text()
    (locustfile,) = re.findall(r'^ENTRYPOINT .*"-f", "([^"]+)"', image, re.M)
    (requirements,) = re.findall(r"--requirement (\S+)$", image, re.M)
    package = Path(asyncload_lib.__path__[0])
    folders = {package, TEMPLATES, (ROOT / locustfile).parent}

    needed = {str(path.relative_to(ROOT)) for path in (*folders, ROOT / requirements)}
    assert set(re.findall(r"^COPY (\S+)", image, re.M)) == needed
    assert re.search(r"^RUN .*apt-get install .*\bredis-server\b", image, re.M)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_wherever_its_environment_was_made_and_starts_no_load_by_itself(unit: Path) -> None:
    text = unit.read_text()

    # The first line of a script in .venv/bin names the place at which the environment was made.
    assert re.search(r"^ExecStart=\S+/\.venv/bin/python -m locust ", text, re.M)
    assert ("[Install]" in text) == ("Type=oneshot" not in text)


def test_pods_are_let_in_where_security_is_restricted() -> None:
    pods = [document["spec"]["template"]["spec"] for document in documents() if "template" in document.get("spec", {})]

    for pod in pods:
        (container,) = pod["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"]["runAsNonRoot"] is True
    assert len(pods) == 2
