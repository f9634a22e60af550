"""The commands that need no load: what they print, how they leave, and that no error is a traceback."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.__main__ import main
from asyncload_lib.errors import ExitCode
from asyncload_lib.report import render
from tests.results.sample import sample_results

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "asyncload.example.toml"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ASYNCLOAD_CONFIG", "ASYNCLOAD_OUT", "ASYNCLOAD_REDIS_URL"):
        monkeypatch.delenv(variable, raising=False)


def run(*argv: object) -> int:
    """Return the exit code, whether `main` returns it or argparse raises it."""
    try:
        return main([str(argument) for argument in argv])
    except SystemExit as left:
        return int(str(left.code))


def refused(code: ExitCode, *argv: object, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(*argv) == code
    captured = capsys.readouterr()
    assert captured.err
    assert "Traceback" not in captured.err
    return captured.err


def saved(path: Path, **changes: Any) -> Path:
    results = copy.deepcopy(SAMPLE)
    results["run"] |= changes
    path.write_text(json.dumps(results), "utf-8")
    return path


SAMPLE = sample_results()


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_shows_settings_with_origin_and_criteria(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "a.toml"
    config.write_text('scenarios = ["redis"]\ncriteria = ["redis p95<1s"]\n[loop]\nlimit = "20ms"\n')
    monkeypatch.setenv("ASYNCLOAD_REDIS_URL", "redis://:hunter2@127.0.0.1:6379/0")
    assert run("check", config) == ExitCode.PASS
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "scenarios redis (file)", "redis.url redis://:***@127.0.0.1:6379/0 (environment)", "chat.users 50 (default)",
        "loop.limit 20ms (file)", "files.max_bytes 256MiB (default)", "loop.probe_token not set (default)",
        "redis p95 < 1 s (file)", "redis total_time < 2 s (default)", "redis max_stall < 20 ms (default)",
    ):  # fmt: skip
        assert line in lines
    assert [line for line in lines if "hunter2" in line or line.startswith("redis p95 < 2 s")] == []


def test_check_accepts_the_example_and_no_file_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", EXAMPLE) == ExitCode.PASS
    out = capsys.readouterr().out
    assert "Browser = http://172.16.168.25:3000" in out
    assert "loop.probe_token is not set" in out
    assert run("check") == ExitCode.PASS
    assert "loop.probe_token is not set" not in capsys.readouterr().out  # the demo brings a token of its own


def test_check_lists_every_problem_in_settings_and_criteria(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "a.toml"
    config.write_text('seed = -1\nfoo = 1\ncriteria = ["chat p59 < 1 s", "nonsense"]\n')
    err = refused(ExitCode.BAD_CONFIGURATION, "check", config, capsys=capsys)
    assert len(err.splitlines()) == 4
    for word in ("'foo'", "seed", "did you mean p99", "'nonsense' is not a criterion"):
        assert word in err


def test_check_refuses_criteria_that_can_have_no_data_or_repeat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "a.toml"
    config.write_text('criteria = ["target max_stall < 8 ms", "chat p95 < 1 s", "chat p95 < 2 s"]\n')
    err = refused(ExitCode.BAD_CONFIGURATION, "check", config, capsys=capsys)
    assert len(err.splitlines()) == 2
    assert f"criteria in {config}: target max_stall < 8 ms: stalls shorter than loop.limit (10 ms)" in err
    assert f"criteria in {config}: chat p95 < 2 s conflicts with chat p95 < 1 s: only one upper" in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('host = "http://127.0.0.1:1"', ["redis.url is not set", "mixed needs it", "vms is not set"]),
        ('[redis]\nurl = "redis://127.0.0.1:1"\n', ["host is not set", "vms is not set"]),
        ('[baseline]\nhost = "http://127.0.0.1:1"\n', ["baseline.host is set, but host is not"]),
    ],
)
def test_check_refuses_the_addresses_that_a_run_would_refuse(
    content: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "a.toml"
    config.write_text(content)
    err = refused(ExitCode.BAD_CONFIGURATION, "check", config, capsys=capsys)
    assert len(err.splitlines()) == len(words)
    assert [word for word in words if word not in err] == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", None),  # the embedded demo has a blocking twin
        ('host = "http://127.0.0.1:1"\nscenarios = ["chat"]', "no blocking service is configured (baseline.host)"),
        ('host = "http://127.0.0.1:1"\nscenarios = ["chat"]\nbaseline.host = "http://127.0.0.1:2"', None),
        ("baseline.enabled = false", "the baseline is switched off (baseline.enabled)"),
    ],
)
def test_check_shows_what_will_not_be_evaluated(
    content: str, reason: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "a.toml"
    config.write_text(content)
    assert run("check", config) == ExitCode.PASS
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("chat speedup"))
    assert line == "chat speedup >= 10x  (default)" + (f"  not evaluated: {reason}" if reason else "")


# --- compare ---------------------------------------------------------------------------------------------------------


def test_compare_prints_the_table_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.md"
    before, after = saved(tmp_path / "a.json"), saved(tmp_path / "b.json", id="b0000000")
    assert run("compare", before, after, "--markdown", table) == ExitCode.PASS
    out = capsys.readouterr().out
    assert out.startswith("# a4c1e9d2 -> b0000000: no improvement\n")
    assert table.read_text("utf-8") == out


def test_compare_prints_text_and_writes_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd, table = copy.deepcopy(SAMPLE), tmp_path / "table.md"
    odd["metrics"][0]["test_name"] = "chat <b> | x"
    (tmp_path / "odd.json").write_text(json.dumps(odd))
    assert run("compare", saved(tmp_path / "a.json"), tmp_path / "odd.json", "--markdown", table) == ExitCode.PASS
    assert "## chat <b> | x\n" in capsys.readouterr().out
    assert "## chat &lt;b> \\| x\n" in table.read_text("utf-8")


def test_compare_leaves_with_3_when_the_second_run_is_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = copy.deepcopy(SAMPLE)
    worse["metrics"][0]["error_rate"] = 0.5
    (tmp_path / "worse.json").write_text(json.dumps(worse))
    before = saved(tmp_path / "a.json")
    assert run("compare", before, tmp_path / "worse.json") == ExitCode.CRITERIA_FAILED
    assert run("compare", tmp_path / "worse.json", before) == ExitCode.PASS
    assert "more errors" in capsys.readouterr().out


def test_compare_prints_what_is_half_a_character(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = copy.deepcopy(SAMPLE)
    odd["metrics"][0]["test_name"] = "a\ud800b"
    (tmp_path / "odd.json").write_text(json.dumps(odd))
    assert run("compare", saved(tmp_path / "a.json"), tmp_path / "odd.json") == ExitCode.PASS
    assert "a\\ud800b" in capsys.readouterr().out


def test_compare_refuses_what_is_not_comparable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = saved(tmp_path / "a.json"), saved(tmp_path / "b.json", seed=2)
    assert run("compare", before, after) == ExitCode.BAD_CONFIGURATION
    captured = capsys.readouterr()
    assert "not comparable: seed was 1 and is 2" in captured.out
    assert "--force" in captured.err
    assert run("compare", before, after, "--force") == ExitCode.PASS


def test_table_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, nowhere = saved(tmp_path / "a.json"), tmp_path / "nowhere" / "table.md"
    assert str(nowhere) in refused(
        ExitCode.REPORT_FAILED, "compare", results, results, "--markdown", nowhere, capsys=capsys
    )


# --- report ----------------------------------------------------------------------------------------------------------


def test_report_is_made_again_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = saved(tmp_path / "async_load_test_results_20260131_120000.json")
    assert run("report", results, "--out", tmp_path / "out") == ExitCode.PASS
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    stem = "async_load_test_report_20260131_120000"
    assert {path.name for path in written} == {f"{stem}.md", f"{stem}.html", f"{stem}.xml"}
    first = {path: path.read_bytes() for path in written}
    assert all(first.values())
    again: set[Path] = set()
    for _ in range(3):  # within one second, most likely
        assert run("report", results, "--out", tmp_path / "out") == ExitCode.PASS
        again |= {Path(line) for line in capsys.readouterr().out.splitlines()}
    assert len(again - set(written)) == 9
    assert {path: path.read_bytes() for path in written} == first
    assert run("report", results) == ExitCode.PASS
    assert (tmp_path / f"{stem}.md").exists()
    assert not list(tmp_path.rglob("latest.*"))  # which is the newest run, not the one that was looked at last


def test_report_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    argv = ("report", saved(tmp_path / "a.json"), "--out", tmp_path / "file" / "out")
    assert str(tmp_path / "file") in refused(ExitCode.REPORT_FAILED, *argv, capsys=capsys)


def test_what_was_written_is_told_where_another_format_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(results: object) -> str:
        raise ValueError("no page")

    monkeypatch.setitem(render._FORMATS, "html", broken)
    assert run("report", saved(tmp_path / "a.json"), "--out", tmp_path / "out") == ExitCode.REPORT_FAILED
    told = capsys.readouterr()
    assert [Path(line).suffix for line in told.out.splitlines()] == [".md", ".xml"]
    assert all(Path(line).is_file() for line in told.out.splitlines())
    assert "ValueError: no page" in told.err


# --- every way to be wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        *(None, "", "{", "[]", "{}", '{"schema_version": 99}', '{"schema_version": 1}', "\0"),
        *(json.dumps({**SAMPLE, "metrics": [metric]}) for metric in ({}, None, {"scenario": 1})),
        json.dumps({**SAMPLE, "summary": {"total_requests": 10**400}}),
    ],
)
@pytest.mark.parametrize("command", ["report", "compare"])
def test_unreadable_results_are_named(
    command: str, content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, good = tmp_path / "bad.json", saved(tmp_path / "good.json")
    if content is not None:
        path.write_text(content)
    argv = (command, good, path) if command == "compare" else (command, path)
    err = refused(ExitCode.BAD_CONFIGURATION, *argv, capsys=capsys)
    assert str(path) in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("total_time",), "x", "metrics[0].total_time must be number or null, not string"),
        (("phases", 0), None, "metrics[0].phases[0] must be object, not null"),
        (("phases",), None, "metrics[0].phases must be array, not null"),
        (("total_requests",), 1.5, "metrics[0].total_requests must be integer, not number"),
        (("error_rate",), 2, "metrics[0].error_rate is 2; allowed is at least 0 and at most 1"),
        (("p50_latency",), -1, "metrics[0].p50_latency is -1; allowed is at least 0"),
        (("latency", "p95", "value"), True, "metrics[0].latency.p95.value must be number or null, not boolean"),
        (("baseline",), [], "metrics[0].baseline must be object, not array"),
        (
            ("event_loops", 0, "by_cause", "loop"),
            "x",
            "metrics[0].event_loops[0].by_cause.loop must be object, not string",
        ),
    ],
)
def test_results_that_no_run_has_written_are_not_compared(
    path: tuple[str | int, ...], value: object, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = copy.deepcopy(SAMPLE)
    place: Any = results["metrics"][0]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    bad, good = tmp_path / "bad.json", saved(tmp_path / "good.json")
    bad.write_text(json.dumps(results))
    for argv in ((good, bad), (bad, good), (bad, good, "--force")):
        assert refused(ExitCode.BAD_CONFIGURATION, "compare", *argv, capsys=capsys) == f"asyncload: {bad}: {problem}\n"


def test_results_that_lack_something_are_compared(tmp_path: Path) -> None:
    results = copy.deepcopy(SAMPLE)
    for key in ("latency", "phases", "event_loops", "event_loop_blocked", "total_time", "error_rate", "baseline"):
        del results["metrics"][0][key]
    results["criteria"], results["summary"] = [], {}
    less = tmp_path / "less.json"
    less.write_text(json.dumps(results))
    assert run("compare", saved(tmp_path / "good.json"), less) == ExitCode.CRITERIA_FAILED  # what was there is not
    assert run("compare", less, saved(tmp_path / "good.json")) == ExitCode.PASS


@pytest.mark.parametrize(
    "argv",
    [[], ["nonsense"], ["report"], ["compare", "a"], ["compare", "a", "b", "c"], ["check", "--nonsense"],
     ["check", "a.toml", "b.toml"], ["report", "a", "--out"]],
)  # fmt: skip
def test_wrong_command_line_leaves_with_64(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    refused(ExitCode.BAD_CONFIGURATION, *argv, capsys=capsys)


def test_demo_gets_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def main(argv: list[str]) -> int:
        seen.append(argv)
        return 7

    monkeypatch.setattr("asyncload_lib.demo.supervisor.main", main)
    assert run("demo", "--faults", "--port=0", "--help") == 7
    assert seen == [["--faults", "--port=0", "--help"]]


def test_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("asyncload_lib.demo.supervisor.main", interrupted)
    assert run("demo") == ExitCode.INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


# --- as a process ----------------------------------------------------------------------------------------------------

WITHOUT_LOCUST = """
import sys
from asyncload_lib.__main__ import main
code = main(sys.argv[1:])
loaded = sorted({"locust", "gevent"} & set(sys.modules))
sys.exit(f"{loaded} loaded" if loaded else code)
"""


@pytest.mark.parametrize("command", ["report", "compare", "check"])
def test_command_works_without_locust(command: str, tmp_path: Path) -> None:
    results = saved(tmp_path / "a.json")
    argv = {"report": [results], "compare": [results, results], "check": [EXAMPLE]}[command]
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCUST, command, *map(str, argv)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(("worse", "code"), [(False, ExitCode.PASS), (True, ExitCode.CRITERIA_FAILED)])
def test_reader_that_has_seen_enough_changes_no_verdict(tmp_path: Path, worse: bool, code: ExitCode) -> None:
    results = copy.deepcopy(SAMPLE)
    results["metrics"][0]["error_rate"] = 0.5 if worse else results["metrics"][0]["error_rate"]
    (tmp_path / "after.json").write_text(json.dumps(results))
    table = tmp_path / "table.md"
    argv = ["compare", saved(tmp_path / "a.json"), tmp_path / "after.json", "--markdown", table]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "asyncload_lib", *map(str, argv)],
            cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (ran.returncode, ran.stderr) == (code, "")
    assert table.exists()


def test_a_terminal_that_cannot_show_every_character_gets_the_rest(tmp_path: Path) -> None:
    directory = tmp_path / "Prüfung"
    ran = subprocess.run(
        [sys.executable, "-m", "asyncload_lib", "report", saved(tmp_path / "a.json"), "--out", directory],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (ExitCode.PASS, "")
    assert "Pr?fung/async_load_test_report_" in ran.stdout
    assert list(directory.glob("*.html"))
