"""Master, workers, target and six machines, each with its own address and 2 ms away from all others."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.accounts import check_whole_suite, differences, imbalances, phases, row
from tests.distributed.cluster import QUICK, Cluster
from tests.distributed.landscape import WORKERS, Landscape
from tests.distributed.network import unavailable
from tests.locust_run import eventually

REPEATS = int(os.environ.get("REPEATS", "1"))
reason = unavailable()
pytestmark = [pytest.mark.chance, pytest.mark.skipif(reason is not None, reason=reason or ""), pytest.mark.timeout(180)]


@pytest.fixture(name="landscape", scope="module")
def standing_landscape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landscape]:
    with Landscape(tmp_path_factory.mktemp("landscape")) as landscape:
        yield landscape


@pytest.mark.parametrize("repeat", range(REPEATS))
def test_all_scenarios_agree_with_every_ledger(tmp_path: Path, landscape: Landscape, repeat: int) -> None:
    before = landscape.ledger()
    with landscape.cluster(tmp_path, "suite.py", ASYNCLOAD_CHAT_SUSTAIN="1s") as cluster:
        code = cluster.wait()
        cluster.wait_workers()
        results = cluster.results

    assert code in (0, 3), cluster.logs
    assert results["run"]["status"] == "complete", results["run"]["status_reasons"]
    after = landscape.ledger()
    assert differences(results, _grown(before, after)) == []
    check_whole_suite(results, [node.pid for node in cluster.workers])
    assert {vm["name"]: vm["state"] for vm in results["metrics"][3]["vms"]} == dict.fromkeys(
        ("Main", "Frontend", "NPU", "AI-Stack", "Browser", "Redis"), "up"
    )
    asked = {name: count - before["vms"][name] for name, count in after["vms"].items()}
    assert asked == dict.fromkeys(before["vms"], 1)
    assert 0 <= results["metrics"][3]["start_skew"] < 1


def test_one_worker_cut_off_and_one_frozen_that_come_back(tmp_path: Path, landscape: Landscape) -> None:
    before = landscape.ledger()
    with landscape.cluster(tmp_path, "chat.py", "-u", "9", "-r", "9", "-t", "20s") as cluster:
        cluster.expect_users()
        time.sleep(2)
        landscape.network.unplug(WORKERS[1])
        cluster.workers[2].send(signal.SIGSTOP)
        try:
            eventually(lambda: cluster.master.output.count("is lost") == 2, 20)
            time.sleep(2)
        finally:
            landscape.network.plug(WORKERS[1])
            cluster.workers[2].send(signal.SIGCONT)
        eventually(lambda: cluster.master.output.count("is back") == 2, 20)
        code = cluster.wait()
        cluster.wait_workers()
        results = cluster.results

    assert code == 4, cluster.logs
    states = [row(results, node.pid)["state"] for node in cluster.workers]
    assert states == ["complete", "returned", "returned"]
    assert sum("came back" in reason for reason in results["run"]["status_reasons"]) == 2
    assert imbalances(results) == []
    # What was on the way when the link broke can have been answered without the answer coming back.
    ledger = _grown(before, landscape.ledger())["chat"]
    counted = phases(results)["chat/run"]
    unsure = counted["failed_requests"] + counted["abandoned_requests"]
    assert counted["successful_requests"] <= ledger["answered"] <= counted["successful_requests"] + unsure
    assert ledger["duplicates"] == 0


def test_the_embedded_target_is_refused_to_workers_elsewhere(tmp_path: Path, landscape: Landscape) -> None:
    network = landscape.network
    places = [network.place(host) for host in ("master", *WORKERS)]
    address = network.address("master")
    with (
        Cluster(tmp_path / "suite", "suite.py", workers=1, settings=QUICK, address=address, places=places) as suite,
        Cluster(tmp_path / "chat", "chat.py", workers=1, settings=QUICK, address=address, places=places) as chat,
    ):
        for cluster in (suite, chat):
            assert cluster.wait() == 64, cluster.logs
            cluster.wait_workers()
            assert "loopback only" in cluster.master.output
            assert "nothing was sent" in cluster.master.output
            assert "Traceback" not in cluster.master.output


def _grown(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what was added to the ledger since."""
    chat = {key: after["chat"][key] - before["chat"][key] for key in ("received", "answered", "failed", "duplicates")}
    commands = {
        key: count - before["redis"]["commands"].get(key, 0) for key, count in after["redis"]["commands"].items()
    }
    return {"chat": chat, "redis": {"commands": commands}}
