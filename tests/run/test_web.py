"""The web UI: a person starts and stops tests there; each leaves a report of its own and is judged on the page."""

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.report.numbers import NOTHING
from tests.browser import CHROMIUM, document_of, needs_browser
from tests.distributed.cluster import free_port
from tests.distributed.test_web_ui import is_up
from tests.locust_run import LocustRun, eventually, target_settings
from tests.report.cases import Page

pytestmark = pytest.mark.chance

Json = dict[str, Any]


def ask(url: str, form: Json | None = None) -> Any:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=30) as answer:
        return json.load(answer)


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def rows_of(base: str) -> list[Json]:
    """What the page is told for its tab."""
    (stats,) = ask(f"{base}/stats/requests")["extended_stats"]
    assert stats["key"] == "verdict"
    return list(stats["data"])


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two tests of one process, and what its page, at a path of its own, showed meanwhile."""
    directory = tmp_path_factory.mktemp("day")
    out = directory / "reports"
    port = free_port()
    base = f"http://127.0.0.1:{port}/load"
    web = ("--web-host", "127.0.0.1", "--web-port", str(port), "--web-base-path", "/load")
    seen = SimpleNamespace(rows=[], statuses=[], downloads=[], page="")
    with LocustRun("chat.py", *web, out=out) as run:
        run.expect("the target is the embedded demo at http://127.0.0.1:")

        def has_users(count: int) -> bool:
            return bool(ask(f"{base}/stats/requests")["user_count"] == count)

        def has_reports(count: int) -> bool:
            return len(list(out.glob("async_load_test_report_*.html"))) == count

        for number in (1, 2):
            started = ask(f"{base}/swarm", {"user_count": 5 * number, "spawn_rate": 100})
            assert started["success"], started
            # The page's figures are up to two seconds old: until then they are those of the test before.
            eventually(partial(has_users, 5 * number))
            eventually(lambda: ask(f"{base}/stats/requests")["stats"][-1]["num_requests"] > 2)
            seen.rows.append(rows_of(base))
            seen.statuses.append(status_of(f"{base}/asyncload/report.html"))
            ask(f"{base}/stop", {})
            eventually(partial(has_reports, number))
            seen.rows.append(rows_of(base))
            seen.statuses.append(status_of(f"{base}/asyncload/report.html"))
            seen.downloads.append(ask(f"{base}/asyncload/report.json"))
        if CHROMIUM is not None:
            seen.page = document_of(f"{base}/?tab=verdict", directory, "--virtual-time-budget=10000")
        for path in out.glob("async_load_test_report_*.html"):
            path.unlink()
        seen.deleted = status_of(f"{base}/asyncload/report.html")
        seen.documents = [json.loads(path.read_text()) for path in sorted(out.glob("async_load_test_results_*.json"))]
        ask(f"{base}/swarm", {"user_count": 1, "spawn_rate": 1, "host": "nowhere"})
        eventually(lambda: rows_of(base) != seen.rows[-1])
        seen.refused = rows_of(base)
        shutil.rmtree(out)
        out.write_text("no directory")
        host = run.output.partition("the target is the embedded demo at ")[2].split()[0]
        ask(f"{base}/swarm", {"user_count": 1, "spawn_rate": 1, "host": host})
        eventually(lambda: rows_of(base) != seen.refused)
        eventually(partial(has_users, 1))
        ask(f"{base}/stop", {})
        seen.unwritten = eventually(
            lambda: [row for row in rows_of(base) if "could not be written" in row["criterion"]]
        )
        run.process.terminate()
        assert run.wait(30) == 5, run.output
    return seen


def test_two_tests_in_one_process_leave_two_reports_that_do_not_mix(day: SimpleNamespace) -> None:
    documents = day.documents
    assert [document["metrics"][0]["concurrency"] for document in documents] == [5, 10]
    assert documents[0]["run"]["id"] != documents[1]["run"]["id"]
    for document in documents:
        metric = document["metrics"][0]
        assert metric["started_requests"] == metric["total_requests"] + metric["abandoned_requests"]
        assert document["run"]["status"] in ("complete", "invalid")


def test_a_test_is_judged_on_the_page_once_it_has_ended(day: SimpleNamespace) -> None:
    for during, after, document in zip(day.rows[::2], day.rows[1::2], day.documents, strict=True):
        assert [row["verdict"] for row in during] == [NOTHING]  # not even by the verdict of the test before
        assert after[0]["verdict"].endswith(document["summary"]["verdict"])
        told = {f"{row['criterion']} {row['limit']}": row["verdict"] for row in after if row["limit"]}
        assert {name: word.partition(" ")[2] for name, word in told.items()} == {
            criterion["name"]: criterion["verdict"] for criterion in document["criteria"]
        }


def test_the_page_gives_the_report_of_the_newest_test(day: SimpleNamespace) -> None:
    assert day.statuses == [404, 200] * 2
    assert day.downloads == day.documents
    assert day.deleted == 404


def test_the_page_tells_what_could_not_begin_and_what_could_not_be_written(day: SimpleNamespace) -> None:
    (row,) = day.refused
    assert row["verdict"] == "not started"
    assert "nowhere" in row["criterion"]
    (row,) = day.unwritten
    assert "Not a directory" in row["criterion"] or "File exists" in row["criterion"]


def test_a_run_that_starts_by_itself_has_its_whole_time(tmp_path: Path) -> None:
    """The demo's start is not part of it."""
    web = ("--web-host", "127.0.0.1", "--web-port", str(free_port()))
    with LocustRun("redis_ops.py", *web, "--autostart", "-t", "2s", "--autoquit", "0", out=tmp_path / "out") as run:
        assert run.wait(60) in (0, 3, 6), run.output
        assert run.results["run"]["duration_s"] >= 2


def test_a_run_that_was_to_start_by_itself_and_never_began_is_no_success(tmp_path: Path) -> None:
    """Its time is up while the master still waits for a worker."""
    web = ("--web-host", "127.0.0.1", "--web-port", str(free_port()))
    master = ("--master", "--expect-workers", "1", "--master-bind-port", str(free_port()))
    start = ("--autostart", "-t", "1s", "--autoquit", "0")
    settings = {"ASYNCLOAD_REDIS_URL": "redis://127.0.0.1:9/0"}  # nobody asks it
    with LocustRun("redis_ops.py", *web, *master, *start, out=tmp_path / "out", settings=settings) as run:
        run.expect("Waiting for workers to be ready")
        run.process.terminate()
        assert run.wait(30) == 143, run.output
        assert "Traceback" not in run.output


@needs_browser
def test_a_real_browser_shows_the_verdict_and_where_the_report_is(day: SimpleNamespace) -> None:
    page = Page(day.page)
    (table,) = page.tables
    assert table[0] == ["Verdict", "Criterion", "Limit", "Observed", "Remark"]
    assert [row[0] for row in table[1:]] == [row["verdict"] for row in day.rows[-1]]


def test_a_suite_whose_host_was_emptied_does_not_load_the_last_baseline(tmp_path: Path) -> None:
    """Locust leaves the host of the last phase, which is the blocking one, on the user classes."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    settings = {"ASYNCLOAD_SCENARIOS": "chat", "ASYNCLOAD_CHAT_USERS": "2", "ASYNCLOAD_CHAT_SUSTAIN": "0"}
    web = ("--web-host", "127.0.0.1", "--web-port", str(port))
    with LocustRun("suite.py", *web, out=tmp_path / "out", settings=settings) as run:
        run.expect("the target is the embedded demo at http://127.0.0.1:")
        for number in (1, 2):
            ask(f"{base}/swarm", {"host": ""})
            eventually(lambda number=number: len(list(run.out.glob("*_report_*.xml"))) == number, 60)  # type: ignore[misc]
            eventually(lambda: ask(f"{base}/stats/requests")["state"] == "stopped")
    targets = [json.loads(path.read_text())["run"]["target"] for path in sorted(run.out.glob("*_results_*.json"))]
    assert targets[0] == targets[1]
    assert targets[1]["embedded"]


def test_users_whose_host_was_emptied_load_what_is_configured(tmp_path: Path, stack: DemoStack) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    web = ("--web-host", "127.0.0.1", "--web-port", str(port))
    with LocustRun("chat.py", *web, out=tmp_path / "out", settings=target_settings(stack)) as run:
        eventually(lambda: is_up(base), 60)
        ask(f"{base}/swarm", {"user_count": 2, "spawn_rate": 2, "host": ""})
        eventually(lambda: ask(f"{base}/stats/requests")["stats"][-1]["num_requests"] > 2)
        ask(f"{base}/stop", {})
        eventually(lambda: list(run.out.glob("*_report_*.xml")))
        assert "Traceback" not in run.output
    assert run.results["run"]["target"]["host"] == stack.host
    assert run.results["run"]["status_reasons"] == []
