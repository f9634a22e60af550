"""How a run can end, and what is left then: a report that says so, and nothing else."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.distributed.cluster import free_port
from tests.locust_run import ROOT, LocustRun, eventually, target_settings
from tests.run.test_suite import QUICK, ledger

pytestmark = pytest.mark.chance

ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
LOST = (signal.SIGHUP, 129)
"""Ends a run as SIGTERM does, once it has let go of its terminal."""
CHAT = ("--headless", "-u", "5", "-r", "5")


def master_at(port: int) -> tuple[str, ...]:
    """Return Locust's options for a master on this port; the workers that it forks find it without."""
    return "--master-bind-host", "127.0.0.1", "--master-bind-port", str(port)


@pytest.fixture(scope="module")
def faulty() -> Iterator[DemoStack]:
    """A target that does what a request asks it to do badly."""
    with DemoStack(model_time_s=0.02, network_delay_s=0.001, faults=True) as stack:
        yield stack


@pytest.mark.parametrize(("number", "code"), [*ENDS, LOST])
def test_an_interrupted_run_writes_its_report_and_says_so(
    tmp_path: Path, stack: DemoStack, number: signal.Signals, code: int
) -> None:
    with LocustRun("chat.py", *CHAT, out=tmp_path / "reports", settings=target_settings(stack)) as run:
        eventually(lambda: ledger(stack)["chat"]["received"] > 5)
        run.send(number)
        assert run.wait(40) == code, run.output
        results = run.results

    assert results["run"]["status"] == "interrupted"
    assert number.name in results["run"]["status_reasons"][0]
    phase = results["metrics"][0]
    assert phase["started_requests"] == phase["total_requests"] + phase["abandoned_requests"]
    assert phase["total_requests"] == ledger(stack)["chat"]["answered"]


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize(("number", "code"), ENDS)
def test_an_interrupted_suite_begins_nothing_more_and_writes_its_report(
    tmp_path: Path, stack: DemoStack, number: signal.Signals, code: int, processes: int
) -> None:
    settings = target_settings(stack) | {"ASYNCLOAD_CHAT_SUSTAIN": "60s", "ASYNCLOAD_CHAT_THINK_MEDIAN": "50ms"}
    options = () if processes == 0 else ("--processes", str(processes), *master_at(free_port()))
    with LocustRun("suite.py", "--headless", *options, out=tmp_path / "reports", settings=settings) as run:
        eventually(lambda: ledger(stack)["chat"]["received"] > 20)
        run.send(number, group=number == signal.SIGINT)
        assert run.wait(40) == code, run.output
        results = run.results

    assert results["run"]["status"] == "interrupted"
    # Locust says so when the time for users to end is over: these had answers in 20 ms, and needed none of it.
    assert "Not all users finished" not in run.output
    begun = [phase for phase in results["metrics"][0]["phases"] if phase["started_requests"]]
    assert [phase["phase"] for phase in begun] == ["warm_up", "few"]
    started, ended = (sum(phase[key] for phase in begun) for key in ("started_requests", "total_requests"))
    assert started == ended == ledger(stack)["chat"]["answered"]
    assert "no request was answered" not in " ".join(results["run"]["status_reasons"])


HANGS = dedent("""\
    import asyncio
    from locust import constant, task
    from asyncload_lib import AsyncHttpUser

    class Hung(AsyncHttpUser):
        wait_time = constant(0)
        asked = 0

        @task
        async def ask(self):
            self.asked += 1
            fault = "?fault=delay:30" if self.asked > 5 else ""
            message = {"message": "hello", "session_id": "one"}
            await self.client.post(f"/api/chat{fault}", json=message, name="/api/chat")

        async def on_stop(self):
            await asyncio.sleep(7)
""")


def test_a_target_that_hangs_does_not_pass_and_users_who_take_long_to_end_lose_nothing(
    tmp_path: Path, faulty: DemoStack
) -> None:
    path = tmp_path / "hangs.py"
    path.write_text(HANGS)
    options = ("--headless", "-u", "4", "-r", "4", "-t", "3s", "--processes", "2", *master_at(free_port()))
    settings = target_settings(faulty) | {"ASYNCLOAD_STOP_TIMEOUT": "1s"}
    with LocustRun(path, *options, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait(60) == 3, run.output
        results = run.results
    assert (results["run"]["status"], results["run"]["status_reasons"]) == ("complete", [])
    (metric,) = results["metrics"]
    assert (metric["total_requests"], metric["abandoned_requests"], metric["overdue_requests"]) == (20, 4, 4)
    verdicts = {row["name"]: row["verdict"] for row in results["criteria"]}
    assert verdicts["run error_rate < 1 %"] == verdicts["run p95 < 2 s"] == "no data"


HANGS_IN_MANY = dedent("""\
    from locust import FastHttpUser, HttpUser, constant, task
    from asyncload_lib import AsyncHttpUser
""")
HUNG_USER = dedent("""\
    class Hung{kind}({kind}):
        fixed_count = 2
        wait_time = constant(0)
        asked = 0

        @task
        {async_}def ask(self):
            self.asked += 1
            if self.asked <= 200:
                {await_}self.client.get("/api/health", name="any")
            else:
                message = {{"message": "hello", "session_id": "one"}}
                {await_}self.client.post("/api/chat?fault=delay:30", json=message, name="any")
""")


@pytest.mark.parametrize("kinds", [["AsyncHttpUser"], ["HttpUser", "FastHttpUser"]], ids="-".join)
def test_a_target_that_hangs_does_not_pass_for_all_that_it_answered_before(
    tmp_path: Path, faulty: DemoStack, kinds: list[str]
) -> None:
    path = tmp_path / "hangs.py"
    words = [("async ", "await ") if kind == "AsyncHttpUser" else ("", "") for kind in kinds]
    classes = [HUNG_USER.format(kind=kind, async_=a, await_=b) for kind, (a, b) in zip(kinds, words, strict=True)]
    path.write_text(HANGS_IN_MANY + "".join(classes))
    users = 2 * len(kinds)
    rate = 50 * users
    options = ("--headless", "-u", str(users), "-r", str(users), "-t", "6s")
    settings = target_settings(faulty) | {"ASYNCLOAD_STOP_TIMEOUT": "1s"}
    criterion = ("--asyncload-criteria", f"run throughput > {rate}")
    with LocustRun(path, *options, *criterion, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait(60) == 3, run.output
        results = run.results
    (metric,) = results["metrics"]
    counts = (metric["total_requests"], metric["abandoned_requests"], metric["overdue_requests"])
    assert counts == (200 * users, users, users), "each kind of user has its part in it"
    verdicts = {row["name"]: row["verdict"] for row in results["criteria"]}
    assert verdicts["run p95 < 2 s"] == "no data"
    assert verdicts["run error_rate < 1 %"] == "pass"  # 2 in 402
    assert 4.5 < metric["total_time"] < 7, "until the users were stopped, not only to the last answer"
    assert verdicts[f"run throughput > {rate}"] == "fail"


BLOCKS_AT_ONCE = dedent("""\
    from locust import constant, task
    from asyncload_lib import AsyncHttpUser

    class Early(AsyncHttpUser):
        wait_time = constant(0.1)

        async def on_start(self):
            await self.client.post("/api/chat?fault=block:0.4", json={"message": "hello", "session_id": "one"})

        @task
        async def ask(self):
            await self.client.get("/api/health")
""")


def test_what_blocks_at_the_start_is_not_forgotten_where_all_users_come_at_once(
    tmp_path: Path, faulty: DemoStack
) -> None:
    path = tmp_path / "blocks.py"
    path.write_text(BLOCKS_AT_ONCE)
    options = ("--headless", "-u", "4", "-r", "4", "-t", "3s", "--processes", "2", *master_at(free_port()))
    with LocustRun(path, *options, out=tmp_path / "reports", settings=target_settings(faulty)) as run:
        run.wait(60)
        (metric,) = run.results["metrics"]
    (target,) = (loop for loop in metric["event_loops"] if loop["name"] == "target")
    assert sum(row["count"] for row in target["culprits"]) >= 4, target
    assert target["max_stall"] > 0.35


BLOCKS = dedent("""\
    from locust import constant, task
    from asyncload_lib import AsyncHttpUser

    class Blocking(AsyncHttpUser):
        wait_time = constant(0)

        @task
        async def ask(self):
            await self.client.post("/api/chat?fault=block:0.9", json={"message": "hello", "session_id": "one"})
""")


def test_a_target_that_is_blocked_while_users_are_spawned_is_condemned_with_its_culprit(
    tmp_path: Path, faulty: DemoStack
) -> None:
    """Its loop is with the first six of them for 5.4 s, and only then with the reset of its probe."""
    path = tmp_path / "blocks.py"
    path.write_text(BLOCKS)
    options = ("--headless", "-u", "12", "-r", "6", "-t", "5s")
    settings = {**QUICK, **target_settings(faulty)}
    with LocustRun(path, *options, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait(60) in (3, 6), run.output
        results = run.results

    (metric,) = results["metrics"]
    assert results["run"]["status"] in ("complete", "invalid"), results["run"]["status_reasons"]
    assert {phase["phase"] for phase in metric["phases"]} == {"ramp", "run"}
    (target,) = (loop for loop in metric["event_loops"] if loop["name"] == "target")
    assert target["blocked"], target["note"]
    assert any("faults.py" in culprit["file"] for culprit in target["culprits"]), target["culprits"]
    assert {row["name"]: row["verdict"] for row in results["criteria"]}["run max_stall < 10 ms"] == "fail"


def test_the_first_interrupt_says_what_a_second_does_and_the_second_does_it(tmp_path: Path) -> None:
    settings = {"ASYNCLOAD_DEMO_MODEL_TIME": "60s", "ASYNCLOAD_CHAT_THINK_MEDIAN": "1ms"}
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
        run.expect("[1/4]")
        family = descendants(run.process.pid)
        run.send(signal.SIGINT, group=True)
        run.expect("SIGINT: stopping; nothing new is started, running operations have up to 10 s to finish. Press")
        run.send(signal.SIGINT, group=True)
        assert run.wait(5) == 130, run.output

    assert run.output.count("Ctrl-C") == 1
    assert "Traceback" not in run.output
    assert not list((tmp_path / "reports").iterdir())
    eventually(lambda: not [pid for pid in family if alive(pid)], 10)


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_who_is_interrupted_before_the_run_has_sent_nothing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports") as run:
        eventually(lambda: descendants(run.process.pid))  # the demo, which takes longer to start than this
        run.send(number, group=number == signal.SIGINT)
        assert run.wait(20) == code, run.output

    assert f"asyncload: ended by {number.name} before the run began; nothing was sent" in run.output
    assert "Traceback" not in run.output
    assert not list((tmp_path / "reports").iterdir())


def test_a_closed_terminal_does_not_cost_the_report(tmp_path: Path, stack: DemoStack) -> None:
    terminal, its_end = os.openpty()
    settings = {"ASYNCLOAD_CHAT_SUSTAIN": "200s", "ASYNCLOAD_OUT": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **target_settings(stack), **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "suite.py"), "--headless"],
        stdin=its_end, stdout=its_end, stderr=its_end, env=environment, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    try:
        os.close(its_end)
        eventually(lambda: ledger(stack)["chat"]["received"] > 5)
        os.close(terminal)
        assert process.wait(40) == 129
    finally:
        process.kill()
        process.wait()
    results = json.loads((tmp_path / "latest.json").read_text())
    assert results["run"]["status_reasons"][0] == "the run was ended by SIGHUP"
    assert {path.suffix for path in tmp_path.glob("latest.*")} == {".json", ".html", ".md", ".xml"}


def test_an_interrupt_does_not_cut_the_report_short(tmp_path: Path, stack: DemoStack) -> None:
    settings = target_settings(stack) | {"ASYNCLOAD_SCENARIOS": "vm_health"}
    out = tmp_path / "reports"
    with LocustRun("suite.py", "--headless", out=out, settings=settings) as run:
        eventually(lambda: list(out.glob("*_results_*.json")), 60)  # the first file; those with pictures are the last
        run.send(signal.SIGINT)
        assert run.wait() in (0, 3, 6), run.output

    assert run.results["run"]["status"] in ("complete", "invalid")
    assert {path.suffix for path in out.glob("*_report_*")} == {".html", ".md", ".xml"}
    assert "Traceback" not in run.output


def test_a_killed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    settings = {"ASYNCLOAD_FILES_DIRECTORY": str(files), "TMPDIR": str(tmp_path)}
    with LocustRun("mixed.py", *CHAT, out=tmp_path / "reports", settings=settings) as run:
        eventually(lambda: list(files.glob("asyncload-files-*/*")), 60)
        session = os.getsid(run.process.pid)
        family = descendants(run.process.pid)
        run.send(signal.SIGKILL)
        run.process.wait()
        assert len(family) >= 4, session  # the demo's supervisor, its redis-server, its backends ...
        eventually(lambda: not [pid for pid in family if alive(pid)], 10)
        eventually(lambda: not list(files.iterdir()), 10)
        eventually(lambda: not [path for path in tmp_path.iterdir() if path.name.startswith("asyncload")], 10)


@pytest.mark.parametrize("moment", ["before the workers are there", "in a phase"])
def test_workers_of_a_killed_master_end(tmp_path: Path, stack: DemoStack, moment: str) -> None:
    settings = target_settings(stack)
    address = master_at(free_port())
    if moment == "before the workers are there":
        address = (*address[:-1], str(free_port()))  # where nobody answers them
    with LocustRun(
        "suite.py", "--headless", "--processes", "2", *address, out=tmp_path / "reports", settings=settings
    ) as run:
        if moment == "in a phase":
            eventually(lambda: ledger(stack)["chat"]["received"] > 2)
        family = eventually(lambda: len(found := descendants(run.process.pid)) == 2 and found)
        run.send(signal.SIGKILL)
        run.process.wait()
        eventually(lambda: not [pid for pid in family if alive(pid)])


def descendants(pid: int) -> set[int]:
    """Return the processes below `pid`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def alive(pid: int) -> bool:
    """Whether the process still does anything; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_bad_settings_are_all_named_and_nothing_is_sent(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**target_settings(stack), "ASYNCLOAD_CHAT_USERS": "-3", "ASYNCLOAD_REDIS_TTL": "soon"}
    settings["ASYNCLOAD_CRITERIA"] = "chat speed > 3"
    with LocustRun("chat.py", *CHAT, "-t", "3s", out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() == 64, run.output

    for word in ("chat.users", "-3", "redis.ttl", "soon", "speed", "nothing was sent"):
        assert word in run.output
    assert "Traceback" not in run.output
    assert ledger(stack)["chat"]["received"] == 0


def test_scenarios_without_an_address_are_refused_together(tmp_path: Path, stack: DemoStack) -> None:
    with LocustRun("suite.py", "--headless", "-H", stack.host, out=tmp_path / "reports") as run:
        assert run.wait() == 64, run.output

    for word in ("scenario redis", "scenario mixed", "scenario vm_health", "redis.url", "vms", "nothing was sent"):
        assert word in run.output
    assert "scenario chat " not in run.output
    assert ledger(stack)["chat"]["received"] == 0


def test_users_without_an_address_are_refused_once_however_many_processes_there_are(
    tmp_path: Path, stack: DemoStack
) -> None:
    options = ("-H", stack.host, "--processes", "2", *master_at(free_port()))
    arguments = ("--headless", "-u", "4", "-r", "4", "-t", "3s", *options)
    with LocustRun("mixed.py", *arguments, out=tmp_path / "reports") as run:
        assert run.wait() == 64, run.output

    told = "redis.url is not set, but users of Redis need it: set it, or run the other users only: locust -f FILE File"
    assert [line for line in run.output.splitlines() if line.startswith("asyncload:")] == [
        f"asyncload: {told}",
        "asyncload: nothing was sent",
    ]


@pytest.mark.parametrize(("locustfile", "options"), [("suite.py", ()), ("mixed.py", ("--processes", "2"))])
def test_a_directory_for_files_that_cannot_be_written_to_is_refused(
    locustfile: str, options: tuple[str, ...], tmp_path: Path, stack: DemoStack
) -> None:
    (tmp_path / "file").write_text("in the way")
    settings = {**target_settings(stack), "ASYNCLOAD_FILES_DIRECTORY": str(tmp_path / "file")}
    options += master_at(free_port()) if options else ()
    with LocustRun(locustfile, "--headless", *options, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() == 64, run.output

    assert [line for line in run.output.splitlines() if line.startswith("asyncload:")] == [
        f"asyncload: files.directory is {tmp_path / 'file'}, where nothing can be written: Not a directory",
        "asyncload: nothing was sent",
    ]


def test_a_host_that_is_no_url_is_refused(tmp_path: Path) -> None:
    host = "127.0.0.1:18001"
    options = ("-H", host, "--asyncload-scenarios", "chat")
    with LocustRun("suite.py", "--headless", "-t", "3s", *options, out=tmp_path / "reports") as run:
        assert run.wait() == 64, run.output

    (line,) = (line for line in run.output.splitlines() if line.startswith("asyncload: host"))
    allowed = "a URL with http:// or https://"
    assert [word for word in ("given to Locust (--host)", repr(host), allowed) if word not in line] == []
    assert "nothing was sent" in run.output
    assert "Traceback" not in run.output


def test_the_host_of_users_that_speak_another_protocol_is_theirs(tmp_path: Path, stack: DemoStack) -> None:
    settings = {"ASYNCLOAD_REDIS_URL": stack.redis_url}
    options = ("-t", "1s", "-H", "tcp://elsewhere")
    with LocustRun("redis_ops.py", *CHAT, *options, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() in (0, 3, 6), run.output

    assert run.results["metrics"][0]["failed_requests"] == 0
    assert run.results["metrics"][0]["total_requests"] > 0


def test_a_baseline_without_a_host_is_refused(tmp_path: Path) -> None:
    settings = {"ASYNCLOAD_BASELINE_HOST": "http://127.0.0.1:9"}
    with LocustRun("suite.py", "--headless", "-t", "3s", out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() == 64, run.output

    assert "baseline.host is set, but host is not" in run.output
    assert "nothing was sent" in run.output


def test_a_target_that_is_not_there_fails_by_kind(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with LocustRun("chat.py", *CHAT, "-t", "1s", "-H", host, out=tmp_path / "reports") as run:
            code = run.wait()
            results = run.results

    assert code == 3, run.output
    assert results["metrics"][0]["error_rate"] == 1
    assert {row["name"]: row["verdict"] for row in results["criteria"]}["chat p95 < 2 s"] == "no data"


def results_told(output: str) -> Path:
    """Return where the run says that its results are."""
    (line,) = [line for line in output.splitlines() if line.startswith("  Results  ")]
    return Path(line.removeprefix("  Results  "))


def test_a_report_that_cannot_be_written_has_its_own_exit_code_and_its_results_are_kept(
    tmp_path: Path, stack: DemoStack
) -> None:
    out = tmp_path / "reports"
    settings = {**target_settings(stack), "TMPDIR": str(tmp_path)}
    with LocustRun("chat.py", *CHAT, "-t", "3s", out=out, settings=settings) as run:
        eventually(lambda: ledger(stack)["chat"]["received"] > 2)
        out.mkdir(exist_ok=True)
        for path in out.iterdir():
            path.unlink()
        out.rmdir()
        out.write_text("a file where the folder should be")
        assert run.wait() == 5, run.output

    assert "PASS" in run.output or "FAIL" in run.output or "INVALID" in run.output
    kept = results_told(run.output)
    assert kept.is_relative_to(tmp_path)
    assert json.loads(kept.read_text())["metrics"][0]["total_requests"] > 2


def test_a_run_of_which_nothing_can_be_kept_tells_its_verdict_and_is_no_success(
    tmp_path: Path, stack: DemoStack
) -> None:
    out, locustfile = tmp_path / "reports", tmp_path / "homeless.py"
    locustfile.write_text(dedent("""\
        import tempfile
        from asyncload_lib import ChatUser
        tempfile.tempdir = "/nowhere"  # a full disk refuses it just the same
        class Chat(ChatUser):
            pass
    """))  # fmt: skip
    with LocustRun(locustfile, *CHAT, "-t", "3s", out=out, settings=target_settings(stack)) as run:
        eventually(lambda: ledger(stack)["chat"]["received"] > 2)
        for path in out.iterdir():
            path.unlink()
        out.rmdir()
        out.write_text("a file where the folder should be")
        assert run.wait() == 5, run.output

    assert "chat p95" in run.output
    assert "The results could not be saved anywhere, not even in the temporary directory: " in run.output
    assert "make it from the results" not in run.output


def test_a_reader_that_has_seen_enough_changes_nothing_about_the_run(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_SCENARIOS": "vm_health"}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "locust", "-f", ROOT / "locustfiles" / "suite.py", "--headless", "--only-summary"],
            env={**os.environ, **settings, "PYTHONPATH": str(ROOT), "ASYNCLOAD_OUT": str(tmp_path)},
            stdout=writer, stderr=subprocess.PIPE, text=True, timeout=90, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)

    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr
    results = json.loads((tmp_path / "latest.json").read_text())
    assert results["run"]["status_reasons"] == [] or results["run"]["status"] == "invalid", ran.stderr
    assert ran.returncode in (0, 3, 6)


def test_a_terminal_that_cannot_show_every_character_gets_the_verdict(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_SCENARIOS": "vm_health", "PYTHONIOENCODING": "ascii"}
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() in (0, 3, 6), run.output

    assert "Traceback" not in run.output
    assert "vm_health reachable" in run.output
    assert str(tmp_path / "reports" / "async_load_test_report_") in run.output


def test_what_cannot_be_written_costs_no_other_file(tmp_path: Path, stack: DemoStack) -> None:
    out = tmp_path / "reports"
    (out / "latest.json" / "in the way").mkdir(parents=True)
    with LocustRun("chat.py", *CHAT, "-t", "1s", out=out, settings=target_settings(stack)) as run:
        assert run.wait() == 5, run.output

    assert "latest.json: cannot be written: Is a directory" in run.output
    assert results_told(run.output).parent == out
    assert {path.suffix for path in out.glob("*_report_*")} == {".html", ".md", ".xml"}


def test_a_busy_generator_makes_the_run_invalid(tmp_path: Path, stack: DemoStack) -> None:
    locustfile = tmp_path / "busy.py"
    locustfile.write_text(
        "import time\n"
        "from locust import constant, task\n"
        "from asyncload_lib import AsyncHttpUser\n"
        "class Busy(AsyncHttpUser):\n"
        "    wait_time = constant(0.05)\n"
        "    @task\n"
        "    async def ask(self):\n"
        "        await self.client.get('/api/health')\n"
        "        time.sleep(0.3)\n"
    )
    with LocustRun(locustfile, *CHAT, "-t", "3s", out=tmp_path / "reports", settings=target_settings(stack)) as run:
        assert run.wait() == 6, run.output
        results = run.results

    assert results["run"]["status"] == "invalid"
    assert "event-loop lag" in results["run"]["status_reasons"][0]
    generator = next(loop for loop in results["metrics"][0]["event_loops"] if loop["name"] == "generator")
    assert any("busy.py" in culprit["file"] for culprit in generator["culprits"])


@pytest.mark.parametrize(
    ("locustfile", "options", "says"),
    [
        ("suite.py", ("--tags", "foo"), "--tags foo leaves ChatBurst, ChatSustained, "),
        ("chat.py", ("-u", "5", "-t", "4s"), "5 users at 1 per second (--spawn-rate) take 4 s to start, but the run"),
    ],
)
def test_what_a_run_cannot_do_is_refused(locustfile: str, options: tuple[str, ...], says: str, tmp_path: Path) -> None:
    with LocustRun(locustfile, "--headless", *options, out=tmp_path / "reports") as run:
        assert run.wait() == 64, run.output

    problems = [line for line in run.output.splitlines() if line.startswith("asyncload: ")]
    assert len(problems) == 2, run.output
    assert says in problems[0]
    assert problems[1] == "asyncload: nothing was sent"
    assert "Traceback" not in run.output


def test_criteria_and_a_demo_of_the_environment_may_be_those_of_other_runs(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**target_settings(stack), "ASYNCLOAD_CRITERIA": "redis p95 < 1 us; run error_rate < 50 %"}
    settings |= {"ASYNCLOAD_CRITERIA_DEFAULTS": "false", "ASYNCLOAD_DEMO_MODE": "blocking"}
    with LocustRun("chat.py", *CHAT, "-t", "1s", out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() in (0, 6), run.output

    found = {row["name"]: row for row in run.results["criteria"]}
    row = found.pop("redis p95 < 1 us")
    assert (row["verdict"], row["why"]) == ("not evaluated", "redis is not part of this run")
    assert {name: row["verdict"] for name, row in found.items()} == {"run error_rate < 50 %": "pass"}


def test_run_is_the_whole_of_a_free_run_of_chat_users(tmp_path: Path, stack: DemoStack) -> None:
    criteria = ("--asyncload-criteria", "run p95 < 1 us")
    with LocustRun("chat.py", *CHAT, "-t", "1s", *criteria, out=tmp_path / "r", settings=target_settings(stack)) as run:
        assert run.wait() in (3, 6), run.output

    rows = {row["name"]: (row["scenario"], row["verdict"]) for row in run.results["criteria"]}
    assert rows["run p95 < 1 us"] == ("chat", "fail")
    assert "chat p95 < 2 s" not in rows


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--exit-code-on-error", "0"), 0)])
def test_without_criteria_failed_requests_end_a_run_as_in_locust(
    tmp_path: Path, stack: DemoStack, options: tuple[str, ...], code: int
) -> None:
    settings = {**target_settings(stack), "ASYNCLOAD_CRITERIA_DEFAULTS": "false", "ASYNCLOAD_CHAT_PATH": "/nope"}
    settings |= {"ASYNCLOAD_GENERATOR_MAX_LOOP_LAG": "10s", "ASYNCLOAD_GENERATOR_MAX_HUB_LAG": "10s"}
    with LocustRun("chat.py", *CHAT, "-t", "1s", *options, out=tmp_path / "r", settings=settings) as run:
        assert run.wait() == code, run.output
    assert run.results["summary"]["verdict"] == "fail"


@pytest.mark.parametrize(("criterion", "code"), [("run error_rate < 50 %", 7), ("run p95 < 1 us", 3)])
def test_a_run_that_passes_ends_with_the_exit_code_that_its_locustfile_has_set(
    tmp_path: Path, stack: DemoStack, criterion: str, code: int
) -> None:
    locustfile = tmp_path / "judging.py"
    locustfile.write_text(
        dedent("""\
            from locust import events
            from asyncload_lib import ChatUser

            class Chat(ChatUser):
                pass

            @events.quitting.add_listener
            def judge(environment, **_):
                environment.process_exit_code = 7
        """)
    )
    settings = {**target_settings(stack), "ASYNCLOAD_CRITERIA_DEFAULTS": "false", "ASYNCLOAD_CRITERIA": criterion}
    settings |= {"ASYNCLOAD_GENERATOR_MAX_LOOP_LAG": "10s", "ASYNCLOAD_GENERATOR_MAX_HUB_LAG": "10s"}
    with LocustRun(locustfile, *CHAT, "-t", "1s", out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() == code, run.output


def test_a_scenario_that_cannot_be_told_costs_no_other(tmp_path: Path, stack: DemoStack) -> None:
    """Here the mistake is put into the code that makes the figures of one scenario."""
    locustfile = tmp_path / "untold.py"
    locustfile.write_text(
        dedent("""\
            import asyncload_lib.suite
            from asyncload_lib.suite import *
            told = asyncload_lib.suite.suite_metric
            def untold(scenario, *arguments, **options):
                return {}["nothing"] if scenario.key == "redis" else told(scenario, *arguments, **options)
            asyncload_lib.suite.suite_metric = untold
        """)
    )
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_SCENARIOS": "redis,vm_health"}
    settings["ASYNCLOAD_BASELINE_ENABLED"] = "false"
    with LocustRun(locustfile, "--headless", out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() == 4, run.output
        results = run.results

    assert [metric["scenario"] for metric in results["metrics"]] == ["vm_health"]
    assert results["run"]["status_reasons"] == ["the results of scenario 1 could not be computed: KeyError: 'nothing'"]
    assert {row["verdict"] for row in results["criteria"] if row["scenario"] == "vm_health"} == {"pass"}
    assert "could not be computed" in (tmp_path / "reports" / "latest.md").read_text()
