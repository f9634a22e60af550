"""A secret given to a run, by whichever way, stands in nothing that the run leaves behind."""

from pathlib import Path
from urllib.parse import urlsplit

from asyncload_lib.demo.stack import DemoStack
from tests.locust_run import LocustRun, target_settings

SECRET = "s3cr3tword"


def test_no_output_of_a_run_shows_a_secret(tmp_path: Path, stack: DemoStack) -> None:
    out = tmp_path / "reports"
    settings = {
        **target_settings(stack),
        "ASYNCLOAD_CHAT_SUSTAIN": "0",
        "ASYNCLOAD_SCENARIOS": "chat",
        "ASYNCLOAD_CHAT_PATH": f"/api/chat?api_key={SECRET}",
        "ASYNCLOAD_REDIS_URL": f"redis://:{SECRET}@{urlsplit(stack.redis_url).netloc}/0",
        "ASYNCLOAD_CHAT_HEADERS": f"Authorization: Bearer {SECRET}|X-CSRF: {SECRET}",
        "ASYNCLOAD_CRITERIA": f"chat[/api/chat?api_key={SECRET}] p95 < 60 s",
    }
    del settings["ASYNCLOAD_LOOP_PROBE_TOKEN"]
    host = stack.host.replace("://", f"://user:{SECRET}@")
    arguments = ["--headless", "-H", host, "--asyncload-loop-probe-token", SECRET]
    with LocustRun("suite.py", *arguments, out=out, settings=settings) as run:
        run.wait()
        results = run.results
        shown = {path.name: path.read_text() for path in out.iterdir()} | {"console": run.output}

    assert {Path(name).suffix for name in shown} >= {".json", ".html", ".md", ".xml"}
    assert {name for name, text in shown.items() if SECRET in text} == set()
    assert "--asyncload-loop-probe-token ***" in results["run"]["command"]
    assert results["run"]["settings"]["chat.headers"] == "***"
    (metric,) = results["metrics"]
    target = next(loop for loop in metric["event_loops"] if loop["name"].startswith("target"))
    assert target["process"].startswith("http://user:***@")
    assert [row["name"] for row in metric["endpoints"]] == ["/api/chat?api_key=***"]
    verdicts = {row["name"]: row["verdict"] for row in results["criteria"]}
    assert verdicts["chat[/api/chat?api_key=***] p95 < 60 s"] == "pass"
