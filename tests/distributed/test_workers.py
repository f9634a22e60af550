"""However many workers share the work: the same report, and the same numbers as the target's ledger."""

import re
import signal
from pathlib import Path
from textwrap import dedent

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.distributed.accounts import by_process, check_whole_suite, differences, read_ids, read_ledger, row
from tests.distributed.cluster import QUICK, Cluster
from tests.distributed.network import unavailable
from tests.locust_run import ROOT, eventually, target_settings

pytestmark = [pytest.mark.chance, pytest.mark.timeout(180)]


@pytest.mark.skipif(unavailable() is None, reason="test_machines runs all scenarios on three workers")
def test_the_same_report_from_six_workers(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_CHAT_SUSTAIN": "1s"}
    with Cluster(tmp_path, "suite.py", workers=6, settings=settings) as cluster:
        code = cluster.wait()
        cluster.wait_workers()
        results = cluster.results

    assert code in (0, 3), cluster.logs
    assert results["run"]["status"] == "complete", results["run"]["status_reasons"]
    check_whole_suite(results, [node.pid for node in cluster.workers])
    assert {vm["name"]: vm["state"] for vm in results["metrics"][3]["vms"]} == {vm["name"]: "up" for vm in stack.vms}
    assert 0 <= results["metrics"][3]["start_skew"] < 5
    assert differences(results, read_ledger(stack)) == []


def test_bad_settings_end_the_master_before_anybody_is_asked(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_CHAT_USERS": "none"}
    with Cluster(tmp_path, "chat.py", workers=1, settings=settings) as cluster:
        assert cluster.wait() == 64, cluster.logs
    assert read_ledger(stack)["chat"]["received"] == 0


CHAT = Path(__file__).parent / "chat_by_process.py"
SPIED = Path(__file__).parent / "chat_spied_on.py"


def test_a_worker_with_other_settings_is_named_before_the_run_and_no_secret_travels(
    tmp_path: Path, stack: DemoStack
) -> None:
    secrets = ("canary-7f3a", "token-51c9", stack.probe_token)
    redis_url = stack.redis_url.replace("redis://", f"redis://:{secrets[0]}@")
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_REDIS_URL": redis_url}
    settings["ASYNCLOAD_LOOP_PROBE_TOKEN"] = secrets[1]
    theirs = {**settings, "ASYNCLOAD_SEED": "7", "ASYNCLOAD_CHAT_SUSTAIN": "9s"}
    arguments = ("-u", "3", "-r", "3", "-t", "2s")
    with Cluster(tmp_path, SPIED, *arguments, workers=1, settings=settings, worker_settings=theirs) as cluster:
        assert cluster.wait() == 4, cluster.logs
        results = cluster.results

    (worker,) = results["workers"]
    said = f"Note: worker {worker['id']}: its seed is 7, the master's is 1"
    assert cluster.master.output.index(said) < cluster.master.output.index("All users spawned"), cluster.master.output
    assert "seed" in worker["note"]
    assert "seed" in results["run"]["status_reasons"][0]
    assert "sustain" not in worker["note"]  # only the master reads it

    wire = (tmp_path / "wire").read_bytes()
    assert b"asyncload_plan" in wire
    assert b"asyncload_final" in wire
    for secret in secrets:
        assert secret.encode() not in wire
        assert secret not in cluster.logs
        assert not [path for path in cluster.out.iterdir() if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_directory_of_a_worker_that_cannot_be_written_to_ends_the_run_before_anything_is_sent(
    tmp_path: Path, stack: DemoStack, processes: str
) -> None:
    """Whatever its own `scenarios` say, and however many workers its command makes."""
    (tmp_path / "file").write_text("in the way")
    settings = {**QUICK, **target_settings(stack)}
    theirs = {**settings, "ASYNCLOAD_FILES_DIRECTORY": str(tmp_path / "file"), "ASYNCLOAD_SCENARIOS": "chat"}
    theirs |= {"LOCUST_PROCESSES": processes}
    with Cluster(tmp_path, "suite.py", workers=1, settings=settings, worker_settings=theirs) as cluster:
        assert cluster.wait() == 64, cluster.logs
        cluster.wait_workers()

    assert [line for line in cluster.master.output.splitlines() if line.startswith("asyncload:")] == [
        f"asyncload: files.directory is {tmp_path / 'file'}, where nothing can be written: Not a directory",
        "asyncload: nothing was sent",
    ]
    assert read_ledger(stack)["chat"]["received"] == 0


def test_a_directory_of_a_worker_does_not_matter_where_the_master_has_no_scenario_that_writes_files(
    tmp_path: Path, stack: DemoStack
) -> None:
    settings = {**QUICK, **target_settings(stack)}
    theirs = {**settings, "ASYNCLOAD_FILES_DIRECTORY": "/nowhere"}
    ours = {**settings, "ASYNCLOAD_SCENARIOS": "redis"}
    with Cluster(tmp_path, "suite.py", workers=1, settings=ours, worker_settings=theirs) as cluster:
        assert cluster.wait() in (0, 3), cluster.logs
        results = cluster.results

    assert (results["run"]["status"], results["metrics"][0]["total_requests"]) == ("complete", 100)


def test_a_worker_is_told_by_what_its_locustfile_says_not_by_where_it_lies(tmp_path: Path, stack: DemoStack) -> None:
    content = (ROOT / "locustfiles" / "chat.py").read_text()
    copy, changed = tmp_path / "same_chat.py", tmp_path / "other_chat.py"
    copy.write_text(content)
    changed.write_text(content + "\n# one line more\n")
    settings = {**QUICK, **target_settings(stack)}
    folder = tmp_path / "temporary"
    folder.mkdir()
    with Cluster(
        tmp_path,
        "chat.py",
        *("-u", "6", "-r", "6", "-t", "2s"),
        settings=settings,
        worker_settings={**settings, "TMPDIR": str(folder)},
        worker_locustfiles=("-", copy, changed),
    ) as cluster:
        assert cluster.wait() == 4, cluster.logs
        results = cluster.results

    assert [row(results, node.pid)["note"] for node in cluster.workers] == [
        None,
        None,
        "its locustfile differs from the master's",
    ]
    assert all(row(results, node.pid)["operations"] for node in cluster.workers)
    assert len(results["run"]["status_reasons"]) == 1
    assert differences(results, read_ledger(stack)) == []


MASTER_AT_ITS_LIMIT = dedent("""\
    import gevent
    from locust import events
    from locust.runners import MasterRunner
    from asyncload_lib import ChatUser
    from asyncload_lib.eventloop.native import native

    class Chat(ChatUser):
        pass

    def hold_the_hub():
        while True:
            native("time", "sleep")(0.2)
            gevent.sleep(0.001)

    @events.test_start.add_listener
    def _(environment, **_):
        if isinstance(environment.runner, MasterRunner):
            gevent.spawn(hold_the_hub)
    """)


def test_a_master_that_cannot_keep_up_makes_the_run_invalid(tmp_path: Path, stack: DemoStack) -> None:
    locustfile = tmp_path / "slow_master.py"
    locustfile.write_text(MASTER_AT_ITS_LIMIT)
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_GENERATOR_MAX_HUB_LAG": "150ms"}
    with Cluster(tmp_path, locustfile, "-u", "4", "-r", "4", "-t", "3s", workers=1, settings=settings) as cluster:
        assert cluster.wait() == 6, cluster.logs
        results = cluster.results

    process = f"{results['run']['host']['name']}:{cluster.master.pid} (master)"
    assert {row["process"] for row in results["generator"]["processes"]} > {process}
    assert any(reason.startswith(f"{process}: hub lag p99 was ") for reason in results["generator"]["reasons"])
    assert results["run"]["status"] == "invalid"


def test_a_worker_that_joins_a_suite_late_does_not_hold_it_up(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_SCENARIOS": "chat,redis", "ASYNCLOAD_CHAT_SUSTAIN": "4s"}
    with Cluster(tmp_path, "suite.py", workers=1, settings=settings) as cluster:
        cluster.expect("burst")
        late = cluster.add_worker()
        assert cluster.wait() in (0, 3), cluster.logs
        cluster.wait_workers()
        results = cluster.results

    assert (results["run"]["status"], results["run"]["status_reasons"]) == ("complete", [])
    assert row(results, late.pid)["note"] == "joined late"
    assert row(results, late.pid)["operations"] > 0  # of the scenario that came after it
    assert "Unknown message" not in late.output
    assert differences(results, read_ledger(stack)) == []


def test_a_worker_that_joins_late_takes_its_share_and_is_counted(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**QUICK, **target_settings(stack)}
    with Cluster(tmp_path, CHAT, "-u", "8", "-r", "8", workers=1, settings=settings) as cluster:
        cluster.expect_users()
        late = cluster.add_worker()
        eventually(lambda: by_process(read_ids(stack))[late.pid] > 9, 60)
        for node in (cluster.master, *cluster.workers):  # as a terminal does it
            node.send(signal.SIGINT)
        assert cluster.wait() == 130, cluster.logs
        cluster.wait_workers()
        results = cluster.results

    assert results["run"]["status_reasons"] == ["the run was ended by SIGINT"]
    assert "joined late" in row(results, late.pid)["note"]
    assert results["metrics"][0]["concurrency"] == 8, "dealt out anew, not more"
    assert row(results, late.pid)["version"]
    assert row(results, late.pid)["operations"] == by_process(read_ids(stack), "answered")[late.pid]
    assert differences(results, read_ledger(stack)) == []


def test_an_embedded_target_is_shared_on_one_machine(tmp_path: Path) -> None:
    settings = {**QUICK, "ASYNCLOAD_SCENARIOS": "redis", "ASYNCLOAD_CRITERIA": "redis p95 < 1 us"}
    with Cluster(tmp_path, "suite.py", workers=2, settings=settings) as cluster:
        assert cluster.wait() == 3, cluster.logs
        results = cluster.results

    assert results["run"]["status"] == "complete", results["run"]["status_reasons"]
    assert results["run"]["target"]["embedded"] is True
    assert re.search("embedded demo", cluster.master.output)
    assert results["metrics"][0]["total_requests"] == 100
    # Workers that come while the demo is started are told like later ones.
    told = re.findall(r"^Worker (\d) of 2: (.+)$", cluster.master.output, re.MULTILINE)
    assert [number for number, _ in told] == ["1", "2"], cluster.logs
    assert {name for _, name in told} == {worker["id"] for worker in results["workers"]}
