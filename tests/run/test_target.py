"""Which target a run watches: the one its users are sent to, wherever its address stands; and what comes of a hang."""

import json
import os
import re
import signal
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.distributed.cluster import free_port
from tests.distributed.test_web_ui import is_up
from tests.locust_run import LocustRun, eventually, target_settings
from tests.run.test_endings import descendants
from tests.run.test_suite import QUICK, ledger, verdicts
from tests.run.test_web import ask

CHAT = ("--headless", "-u", "2", "-r", "2", "-t", "2s")


def written(folder: Path, *hosts: str | None, body: str = "await self.client.get('/api/health')") -> Path:
    """Write a locustfile with one user class for each host."""
    lines = ["import time", "from locust import constant, task", "from asyncload_lib import AsyncHttpUser, RedisUser"]
    for number, host in enumerate(hosts):
        lines += [
            f"class Mine{number}(AsyncHttpUser):",
            f"    host = {host!r}",
            "    wait_time = constant(0.05)",
            "    scenario = {'name': 'Checkout Flow'}  # the author's own, not asyncload's",
            "    @task",
            "    async def ask(self):",
            *(f"        {line}" for line in textwrap.dedent(body).splitlines()),
        ]
    path = folder / "mine.py"
    path.write_text("\n".join(lines) + "\n")
    return path


def targets(results: dict[str, Any]) -> list[dict[str, Any]]:
    loops = results["metrics"][0]["event_loops"]
    return [loop for loop in loops if loop["name"].startswith("target")]


@pytest.mark.parametrize("where", ["class", "option"])
def test_the_host_of_a_class_or_an_option_is_watched_slash_or_not(tmp_path: Path, stack: DemoStack, where: str) -> None:
    host = f"{stack.host}/"
    locustfile = written(tmp_path, host if where == "class" else None)
    options = ("-H", host) if where == "option" else ()
    weaker = {"ASYNCLOAD_HOST": stack.blocking_host} if where == "option" else {}
    settings = {"ASYNCLOAD_LOOP_PROBE_TOKEN": stack.probe_token, **weaker}
    with LocustRun(locustfile, *CHAT, *options, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() in (0, 3, 6), run.output
        results = run.results

    assert results["run"]["target"]["host"] == stack.host
    assert results["run"]["settings"]["host"] == stack.host
    assert [loop["witness"] for loop in targets(results)] == ["inside", "outside"]
    assert targets(results)[0]["blocked"] is not None, targets(results)[0]["note"]
    assert verdicts(results)["run max_stall < 10 ms"] in ("pass", "fail")
    assert {"run p95 < 2 s", "run error_rate < 1 %"} <= set(verdicts(results))


def test_several_hosts_cannot_be_judged_as_one(tmp_path: Path, stack: DemoStack) -> None:
    locustfile = written(tmp_path, stack.host, stack.blocking_host)
    with LocustRun(locustfile, *CHAT, out=tmp_path / "reports") as run:
        assert run.wait() in (3, 6), run.output
        results = run.results

    (target,) = targets(results)
    assert target["blocked"] is None
    assert "several hosts" in target["note"]
    assert verdicts(results)["run max_stall < 10 ms"] == "no data"


def test_a_host_that_is_empty_does_not_load_the_demo(tmp_path: Path) -> None:
    """`-H "$TARGET"` without a TARGET: what passes against the demo says nothing of the system that was meant."""
    arguments = ("--headless", "-u", "1", "-t", "1s", "--host", "")
    with LocustRun("chat.py", *arguments, out=tmp_path / "reports") as run:
        assert run.wait() == 64, run.output

    assert [line for line in run.output.splitlines() if line.startswith("asyncload:")] == [
        "asyncload: host on the command line (--host) is empty: give it a value or leave it out",
        "asyncload: nothing was sent",
    ]


def test_what_the_command_line_asks_of_a_demo_that_is_not_loaded_is_refused(tmp_path: Path, stack: DemoStack) -> None:
    address = {"ASYNCLOAD_HOST": stack.host, "ASYNCLOAD_SCENARIOS": "chat"}
    demo = ("--asyncload-demo-mode", "blocking", "--asyncload-demo-model-time", "1s")
    with LocustRun("suite.py", "--headless", *demo, out=tmp_path / "reports", settings=address) as run:
        assert run.wait() == 64, run.output

    assert re.findall(
        r"^asyncload: (\S+) on the command line \((\S+)\) applies only to the embedded demo, ", run.output, re.M
    ) == [
        ("demo.mode", "--asyncload-demo-mode"),
        ("demo.model_time", "--asyncload-demo-model-time"),
    ]
    assert "asyncload: nothing was sent" in run.output


def test_users_without_a_host_are_judged_by_their_own_loop(tmp_path: Path, stack: DemoStack) -> None:
    settings = {"ASYNCLOAD_REDIS_URL": stack.redis_url}
    with LocustRun("redis_ops.py", *CHAT, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() in (0, 3, 6), run.output
        results = run.results

    assert targets(results) == []
    assert verdicts(results)["redis max_stall < 10 ms"] in ("pass", "fail")


@pytest.mark.timeout(150)
def test_users_that_hang_the_loop_for_ever_are_named_in_a_report(tmp_path: Path, stack: DemoStack) -> None:
    locustfile = written(tmp_path, None, body="await self.client.get('/api/health')\ntime.sleep(10**6)")
    settings = {**target_settings(stack), "ASYNCLOAD_STOP_TIMEOUT": "1s"}
    with LocustRun(locustfile, *CHAT, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait(100) == 6, run.output
        results = run.results

    assert "event-loop lag" in results["run"]["status_reasons"][0]
    generator = next(loop for loop in results["metrics"][0]["event_loops"] if loop["name"] == "generator")
    assert generator["blocked"] is True
    assert generator["culprits"][0]["call"].startswith("time.sleep(10**6)")
    assert [target["blocked"] for target in targets(results)] == [None]
    assert verdicts(results)["run max_stall < 10 ms"] == "fail"


def swarm(base: str, **form: Any) -> None:
    """Start a test as soon as the web UI is there and the one before has ended."""
    eventually(lambda: ready(base))
    answer = ask(f"{base}/swarm", {"user_count": 1, "spawn_rate": 1, **form})
    assert answer["success"], answer


def ready(base: str) -> bool:
    try:
        return ask(f"{base}/stats/requests")["state"] in ("ready", "stopped")
    except OSError:
        return False


def reported(out: Path, count: int) -> list[dict[str, Any]]:
    """Return the results of `count` tests once they are all there; the last report is written after them."""
    eventually(lambda: len(list(out.glob("async_load_test_report_*.xml"))) == count, 60)
    return [json.loads(path.read_text()) for path in sorted(out.glob("async_load_test_results_*.json"))]


@pytest.mark.timeout(150)
def test_each_suite_of_the_web_ui_is_whole_and_against_the_same_host(tmp_path: Path, stack: DemoStack) -> None:
    port, out = free_port(), tmp_path / "reports"
    base = f"http://127.0.0.1:{port}"
    settings = {**target_settings(stack), **QUICK, "ASYNCLOAD_SCENARIOS": "chat"}
    settings["ASYNCLOAD_CHAT_SUSTAIN"] = "1s"
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port))
    with LocustRun("suite.py", *arguments, out=out, settings=settings) as run:
        swarm(base)
        reported(out, 1)
        stack.reset_ledger()
        swarm(base)
        eventually(lambda: ledger(stack)["chat"]["received"] > 60)
        ask(f"{base}/stop", {})
        reported(out, 2)
        stack.reset_ledger()
        swarm(base)
        documents = reported(out, 3)
        counted = ledger(stack)["chat"]
        run.process.terminate()
        run.wait(30)

    assert [document["run"]["target"]["host"] for document in documents] == [stack.host] * 3
    first, stopped, last = (document["run"] for document in documents)
    assert stopped["status"] == "incomplete"
    for whole in (first, last):
        assert whole["status"] in ("complete", "invalid"), whole["status_reasons"]
    (metric,) = documents[-1]["metrics"]
    assert metric["total_requests"] == 50
    told = sum(phase["total_requests"] for phase in [*metric["phases"], metric["baseline"]])
    assert (told, 0) == (counted["answered"], counted["duplicates"])


def test_a_suite_that_breaks_off_between_phases_is_reported(tmp_path: Path, stack: DemoStack) -> None:
    port, out, locustfile = free_port(), tmp_path / "reports", tmp_path / "breaking.py"
    locustfile.write_text(
        "from asyncload_lib.suite import *\n"
        "from asyncload_lib.run.coordinator import Coordinator\n"
        "def broken(self):\n"
        "    raise ZeroDivisionError('between two phases')\n"
        "Coordinator.wait_ready = broken\n"
    )
    base = f"http://127.0.0.1:{port}"
    settings = {**target_settings(stack), **QUICK, "ASYNCLOAD_SCENARIOS": "chat"}
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port))
    with LocustRun(locustfile, *arguments, out=out, settings=settings) as run:
        swarm(base)
        (document,) = reported(out, 1)
        run.expect("INCOMPLETE")  # in the terminal, too
        run.process.terminate()
        run.wait(30)

    assert document["run"]["status"] == "incomplete"
    assert "between two phases" in " ".join(document["run"]["status_reasons"])
    assert document["metrics"][0]["phases"][0]["total_requests"] > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_suite_that_is_stopped_between_two_phases_begins_nothing_more(
    tmp_path: Path, stack: DemoStack, workers: int
) -> None:
    """And the next one is whole."""
    port, out, locustfile = free_port(), tmp_path / "reports", tmp_path / "pausing.py"
    locustfile.write_text(
        textwrap.dedent("""\
            from pathlib import Path
            import gevent
            from asyncload_lib.suite import *
            from asyncload_lib.run.coordinator import Coordinator

            def pausing(self, wait_ready=Coordinator.wait_ready):
                print("between two phases", flush=True)
                while not Path("now").exists():
                    gevent.sleep(0.05)
                wait_ready(self)

            Coordinator.wait_ready = pausing
        """)
    )
    base = f"http://127.0.0.1:{port}"
    settings = {**target_settings(stack), **QUICK, "ASYNCLOAD_SCENARIOS": "chat", "ASYNCLOAD_CHAT_USERS": "4"}
    settings |= {"ASYNCLOAD_CHAT_SUSTAIN": "0", "ASYNCLOAD_BASELINE_ENABLED": "false"}
    master = ("--master-bind-host", "127.0.0.1", "--master-bind-port", str(free_port()), "--processes", str(workers))
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port), *(master if workers else ()))
    with LocustRun(locustfile, *arguments, out=out, settings=settings) as run:
        eventually(lambda: is_up(base), 60)
        eventually(lambda: len(ask(f"{base}/stats/requests").get("workers", ())) == workers)
        swarm(base)
        run.expect("between two phases")
        ask(f"{base}/stop", {})
        (tmp_path / "now").touch()
        reported(out, 1)
        swarm(base)
        stopped, whole = (document["run"] | document["metrics"][0] for document in reported(out, 2))
        run.process.terminate()
        run.wait(30)

    begun = [phase["phase"] for phase in stopped["phases"] if phase["started_requests"]]
    assert (stopped["status"], begun) == ("incomplete", ["warm_up"])
    assert "the run ended before everything was measured" in stopped["status_reasons"]
    assert whole["status"] in ("complete", "invalid"), whole["status_reasons"]
    assert whole["total_requests"] == 4


def test_a_host_given_in_the_web_ui_that_is_no_url_is_refused(tmp_path: Path, stack: DemoStack) -> None:
    port, out = free_port(), tmp_path / "reports"
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port))
    with LocustRun("chat.py", *arguments, out=out, settings=target_settings(stack)) as run:
        swarm(f"http://127.0.0.1:{port}", host="127.0.0.1:18001")
        run.expect("asyncload: host given to Locust (--host) is '127.0.0.1:18001'; allowed is a URL with http://")
        run.expect("asyncload: nothing was sent")
        run.process.terminate()
        run.wait(30)

    assert "Traceback" not in run.output
    assert ledger(stack)["chat"]["received"] == 0


def test_a_suite_whose_host_is_given_in_the_web_ui_is_not_compared_with_the_demo(
    tmp_path: Path, stack: DemoStack
) -> None:
    port, out = free_port(), tmp_path / "reports"
    settings = {**QUICK, "ASYNCLOAD_SCENARIOS": "chat", "ASYNCLOAD_CHAT_USERS": "2", "ASYNCLOAD_CHAT_SUSTAIN": "0"}
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port))
    with LocustRun("suite.py", *arguments, out=out, settings=settings) as run:
        run.expect("the target is the embedded demo at http://127.0.0.1:")
        swarm(f"http://127.0.0.1:{port}", host=stack.host)
        (document,) = reported(out, 1)
        run.process.terminate()
        run.wait(30)

    assert document["run"]["target"] == {"host": stack.host, "embedded": False, "mode": None}
    assert document["metrics"][0]["baseline"] is None
    assert verdicts(document)["chat speedup >= 10x"] == "not evaluated"


def test_a_suite_whose_host_is_given_in_the_web_ui_is_refused_without_its_other_addresses(
    tmp_path: Path, stack: DemoStack
) -> None:
    port, out = free_port(), tmp_path / "reports"
    with LocustRun("suite.py", "--web-host", "127.0.0.1", "--web-port", str(port), out=out) as run:
        run.expect("the target is the embedded demo at http://127.0.0.1:")
        swarm(f"http://127.0.0.1:{port}", host=stack.host)
        run.expect("asyncload: nothing was sent")
        run.process.terminate()
        run.wait(30)

    for problem in ("redis.url is not set, but scenario redis", "vms is not set, but scenario vm_health"):
        assert problem in run.output
    assert "scenario chat needs" not in run.output
    assert ledger(stack)["chat"]["received"] == 0


DEMO_THAT = textwrap.dedent("""\
    from pathlib import Path
    import gevent
    from asyncload_lib import ChatUser
    from asyncload_lib.demo.stack import DemoStack
    from asyncload_lib.errors import TargetError

    class Chat(ChatUser):
        pass

    def fails(self):
        raise TargetError("no demo today")

    def is_late(self, start=DemoStack.start):
        while not Path("now").exists():
            gevent.sleep(0.05)
        start(self)
        print("the demo is up", flush=True)

    DemoStack.start = {does}
""")


def test_a_host_given_while_the_demo_is_starting_is_loaded_in_its_place(tmp_path: Path, stack: DemoStack) -> None:
    port, out, locustfile = free_port(), tmp_path / "reports", tmp_path / "late.py"
    locustfile.write_text(DEMO_THAT.format(does="is_late"))
    base = f"http://127.0.0.1:{port}"
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port))
    settings = {**QUICK, "ASYNCLOAD_CHAT_THINK_MEDIAN": "10ms"}
    with LocustRun(locustfile, *arguments, out=out, settings=settings) as run:
        swarm(base, host=stack.host)
        eventually(lambda: ledger(stack)["chat"]["received"] > 2)
        (tmp_path / "now").touch()
        run.expect("the demo is up")
        ask(f"{base}/stop", {})
        (document,) = reported(out, 1)
        run.process.terminate()
        run.wait(30)

    assert document["run"]["target"]["host"] == stack.host
    assert document["run"]["status"] in ("complete", "invalid"), document["run"]["status_reasons"]
    assert document["metrics"][0]["total_requests"] == ledger(stack)["chat"]["answered"]


def test_a_demo_that_cannot_start_keeps_nobody_from_loading_another_host(tmp_path: Path, stack: DemoStack) -> None:
    port, out, locustfile = free_port(), tmp_path / "reports", tmp_path / "failing.py"
    locustfile.write_text(DEMO_THAT.format(does="fails"))
    base = f"http://127.0.0.1:{port}"
    with LocustRun(locustfile, "--web-host", "127.0.0.1", "--web-port", str(port), out=out) as run:
        run.expect("asyncload: no demo today")  # before anybody asks for it
        swarm(base)
        eventually(lambda: run.output.count("asyncload: no demo today") == 2)
        swarm(base, host=stack.host)
        eventually(lambda: ledger(stack)["chat"]["received"])
        run.process.terminate()
        run.wait(30)

    assert "Traceback" not in run.output, run.output
    assert run.results["run"]["target"]["host"] == stack.host


def test_a_demo_that_cannot_start_is_told_in_one_line(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "redis-server").write_text("#!/bin/sh\necho no memory >&2\nexit 7\n")
    (programs / "redis-server").chmod(0o755)
    settings = {"PATH": f"{programs}:{os.environ['PATH']}"}
    with LocustRun("chat.py", *CHAT, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() == 1, run.output

    told = r"asyncload: the demo did not start: redis \(process \d+\) ended with exit code 7: no memory"
    assert [line for line in run.output.splitlines() if re.fullmatch(told, line)], run.output
    assert "Traceback" not in run.output, run.output


def redis_of_the_demo(run: LocustRun) -> int:
    """Return the process id of the demo's Redis."""
    (pid,) = (pid for pid in descendants(run.process.pid) if "redis-server" in Path(f"/proc/{pid}/comm").read_text())
    return pid


def test_a_demo_that_dies_in_the_run_is_not_taken_for_a_bad_target(tmp_path: Path) -> None:
    """Also where the run is over before all of it has ended."""
    settings = {**QUICK, "ASYNCLOAD_SCENARIOS": "chat,redis", "ASYNCLOAD_CHAT_SUSTAIN": "0"}
    settings["ASYNCLOAD_BASELINE_ENABLED"] = "false"
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
        run.expect("burst ")
        pid = redis_of_the_demo(run)
        os.kill(pid, signal.SIGKILL)
        assert run.wait() == 4, run.output

    reason, *_ = run.results["run"]["status_reasons"]
    assert reason == f"the demo ended during the run: redis (process {pid}) was ended by SIGKILL"


def test_no_run_begins_against_a_demo_that_has_died(tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "reports"
    base = f"http://127.0.0.1:{port}"
    with LocustRun("chat.py", "--web-host", "127.0.0.1", "--web-port", str(port), out=out) as run:
        swarm(base)
        run.expect("No host given: the target is the embedded demo")
        pid = redis_of_the_demo(run)
        os.kill(pid, signal.SIGKILL)
        died = f"redis (process {pid}) was ended by SIGKILL"
        eventually(lambda: ask(f"{base}/stats/requests")["stats"][-1]["num_failures"])
        ask(f"{base}/stop", {})
        (document,) = reported(out, 1)
        swarm(base)
        run.expect(f"asyncload: the demo has ended: {died}; stop this command and start it again")
        run.process.terminate()
        assert run.wait(30) == 4, run.output

    assert f"the demo ended during the run: {died}" in document["run"]["status_reasons"]


def test_a_host_that_is_changed_while_the_run_goes_on_makes_it_incomplete(tmp_path: Path, stack: DemoStack) -> None:
    """Also where it is put back before the run ends."""
    port, out = free_port(), tmp_path / "reports"
    base = f"http://127.0.0.1:{port}"
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port), "-H", stack.host)

    def spawned(users: int) -> bool:
        return bool(ask(f"{base}/stats/requests")["user_count"] == users)

    with LocustRun("chat.py", *arguments, out=out, settings=target_settings(stack)) as run:
        for number, hosts in enumerate(([stack.blocking_host], [stack.blocking_host, stack.host]), 1):
            swarm(base, host=stack.host)
            for users, host in enumerate(hosts, 2):
                eventually(lambda users=users: spawned(users - 1))  # type: ignore[misc]
                answer = ask(f"{base}/swarm", {"user_count": users, "spawn_rate": 1, "host": host})
                assert answer["success"], answer
            eventually(lambda hosts=hosts: spawned(1 + len(hosts)))  # type: ignore[misc]
            ask(f"{base}/stop", {})
            documents = reported(out, number)
        run.process.terminate()
        assert run.wait(30) == 4, run.output

    for document in documents:
        assert document["run"]["target"]["host"] == stack.host
        assert document["run"]["status"] == "incomplete"
        (reason,) = (text for text in document["run"]["status_reasons"] if "host was changed" in text)
        assert stack.host in reason
        assert stack.blocking_host in reason


def test_a_host_given_in_the_web_ui_is_the_one_that_is_watched(tmp_path: Path, stack: DemoStack) -> None:
    port, out = free_port(), tmp_path / "reports"
    base = f"http://127.0.0.1:{port}"
    hosts = [stack.host, stack.blocking_host]
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port), "-H", stack.host)

    def probes() -> int:
        count: int = ledger(stack)["chat"]["by_path"]["/api/chat/health"]["received"]
        return count

    def is_left_alone() -> bool:
        before = probes()
        time.sleep(0.3)  # fifteen of the witness's intervals
        return probes() == before

    settings = {"ASYNCLOAD_LOOP_WITNESS_PATH": "/api/chat/health"}
    with LocustRun("redis_ops.py", *arguments, out=out, settings={**settings, **target_settings(stack)}) as run:
        for number, host in enumerate(hosts, 1):
            swarm(base, host=f"{host}/")
            eventually(lambda: ask(f"{base}/stats/requests")["stats"][-1]["num_requests"] > 2)
            eventually(lambda: not is_left_alone())
            ask(f"{base}/stop", {})
            documents = reported(out, number)
            eventually(is_left_alone)
        run.process.terminate()
        run.wait(30)

    assert [document["run"]["target"]["host"] for document in documents] == hosts
    assert [targets(document)[-1]["process"] for document in documents] == hosts
