"""The web UI: a person starts and stops tests there, and each leaves a report of its own."""

import json
import socket
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.locust_run import LocustRun, eventually

pytestmark = pytest.mark.chance


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(url: str, form: dict[str, Any] | None = None) -> Any:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=30) as answer:
        return json.load(answer)


def test_two_tests_in_one_process_leave_two_reports_that_do_not_mix(tmp_path: Path) -> None:
    port = free_port()
    out = tmp_path / "reports"
    web = ("--web-host", "127.0.0.1", "--web-port", str(port))
    with LocustRun("redis_ops.py", *web, out=out) as run:
        run.expect("the target is the embedded demo at http://127.0.0.1:")
        base = f"http://127.0.0.1:{port}"

        def has_users(count: int) -> bool:
            return bool(ask(f"{base}/stats/requests")["user_count"] == count)

        def has_reports(count: int) -> bool:
            return len(list(out.glob("async_load_test_report_*.html"))) == count

        for number in (1, 2):
            started = ask(f"{base}/swarm", {"user_count": 5 * number, "spawn_rate": 100})
            assert started["success"], started
            # The page's figures are up to two seconds old: until then they are those of the test before.
            eventually(partial(has_users, 5 * number))
            eventually(lambda: ask(f"{base}/stats/requests")["stats"][-1]["num_requests"] > 20)
            ask(f"{base}/stop", {})
            eventually(partial(has_reports, number))
        documents = [json.loads(path.read_text()) for path in sorted(out.glob("async_load_test_results_*.json"))]
        run.process.terminate()
        assert run.wait(30) in (0, 3, 6), run.output

    assert [document["metrics"][0]["concurrency"] for document in documents] == [5, 10]
    assert documents[0]["run"]["id"] != documents[1]["run"]["id"]
    for document in documents:
        metric = document["metrics"][0]
        assert metric["started_requests"] == metric["total_requests"] + metric["abandoned_requests"]
        assert document["run"]["status"] in ("complete", "invalid")
