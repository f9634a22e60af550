"""Several servers behind one address: what was not read of a target is not passed."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.locust_run import LocustRun
from tests.run.replicas import TOKEN, Balancer, server
from tests.run.test_suite import verdicts
from tests.run.test_target import targets, written

pytestmark = pytest.mark.chance

LOAD = ("--headless", "-u", "4", "-r", "4", "-t", "3s")
WITNESS = {"ASYNCLOAD_LOOP_PROBE_TOKEN": TOKEN}


def run(folder: Path, host: str, held: Balancer | None = None) -> dict[str, Any]:
    """Load the target for a while and return the results; `held`: goes on holding everything up meanwhile."""
    locustfile = written(folder, host, body="await self.client.get('/work')")
    with LocustRun(locustfile, *LOAD, out=folder / "reports", settings=WITNESS) as locust:
        while held is not None and locust.process.poll() is None:
            held.hold(0.2)
            time.sleep(0.5)
        assert locust.wait() in (0, 3, 6), locust.output
        return locust.results


def test_a_replica_that_no_reading_came_to_is_named_and_not_passed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        replicas = [stack.enter_context(server(tmp_path, blocks_s=blocks_s)) for blocks_s in (0.0, 0.0, 0.05)]
        balancer = stack.enter_context(Balancer(*(port for port, _ in replicas)))
        results = run(tmp_path, balancer.url)

    *inside, _ = targets(results)
    unjudged = " ".join(row["process"] for row in inside if row["blocked"] is None)
    read = [pid for _, pid in replicas if f"pid {pid}" not in unjudged]
    assert len(read) <= 1, inside
    assert "load balancer" in " ".join(row["note"] for row in inside)
    (row,) = (row for row in results["criteria"] if row["name"] == "run max_stall < 10 ms")
    assert row["verdict"] == "no data", row
    assert all(f"pid {pid}" in row["why"] for _, pid in replicas if pid not in read), row


def test_a_replica_without_the_probe_is_not_passed(tmp_path: Path) -> None:
    with (
        server(tmp_path) as (first, _),
        server(tmp_path, token="another") as (second, _),
        Balancer(first, first, second) as balancer,
    ):
        results = run(tmp_path, balancer.url)

    assert verdicts(results)["run max_stall < 10 ms"] == "no data"
    assert "HTTP 401" in " ".join(row["note"] for row in targets(results))


def test_workers_of_one_server_that_are_all_read_are_judged(tmp_path: Path) -> None:
    with server(tmp_path, workers=2) as (port, _), Balancer(port) as balancer:
        results = run(tmp_path, balancer.url)

    *inside, _ = targets(results)
    assert [row["blocked"] is None for row in inside] == [False, False], inside
    assert verdicts(results)["run max_stall < 10 ms"] in ("pass", "fail")


def test_a_delay_that_no_loop_felt_is_told_and_blames_none(tmp_path: Path) -> None:
    with server(tmp_path) as (port, _), Balancer(port) as balancer:
        results = run(tmp_path, balancer.url, held=balancer)

    inside, outside = targets(results)
    assert inside["blocked"] is not None
    assert outside["blocked"] is True
    assert outside["proven_delay"] > 0.1
    assert "never late by more than" in outside["note"]
    assert verdicts(results)["run max_stall < 10 ms"] in ("pass", "fail")
