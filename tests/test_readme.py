"""What the README shows is there, and what is there the README shows."""

import re

from asyncload_lib.errors import ExitCode
from asyncload_lib.settings import OPTIONS
from asyncload_lib.verdict.grammar import FREE_PHASES, KNOWN
from asyncload_lib.verdict.metrics import METRICS, Subject
from tests.locust_run import ROOT

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_setting_stands_with_its_default_and_meaning() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*) \|$", README, re.M))

    assert set(rows) == set(OPTIONS)
    for key, option in OPTIONS.items():
        assert option.help in rows[key], key
        if isinstance(option.default, str | int | float) and not isinstance(option.default, bool):
            assert f"`{option.default}`" in rows[key], key


CRITERIA = README.partition("## Criteria")[2].partition("## Exit codes")[0]


def test_every_metric_stands_beside_the_subjects_that_have_it() -> None:
    subjects = {
        "scenario": [Subject(scenario) for scenario in ("chat", "mixed", "vm_health")],
        "phase": [Subject("chat", "burst")],
        "endpoint": [Subject("chat", None, "/")],
        "target": [Subject("target")],
        "generator": [Subject("generator")],
    }
    shown: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (.*) \|$", CRITERIA.partition("|---|")[2], re.M):
        of, metrics = row.split(" | ")
        for subject in re.findall(r"scenario|phase|endpoint|target|generator", of):
            shown.setdefault(subject, set()).update(re.findall(r"`([\w.]+)`", metrics))
    shown["endpoint"].discard("count")  # of the metrics of a request
    for level, examples in subjects.items():
        there_are = {name for name, metric in METRICS.items() if any(metric.exists(one) for one in examples)}
        assert shown[level] - {"count"} == there_are, level


def test_every_phase_stands_beside_its_scenario() -> None:
    (line,) = re.findall(r"^Phases, the headline first: (.*)$", CRITERIA, re.M)
    shown = dict(re.findall(r"(chat|redis|mixed|vm_health|free run) ([^;]+)", line))
    of_all = {*FREE_PHASES, "baseline", "baseline_warm_up"}
    assert {name: set(re.findall(r"\w+", phases)) for name, phases in shown.items()} == {
        **{scenario: set(KNOWN[scenario]) - of_all for scenario in ("chat", "redis", "mixed", "vm_health")},
        "free run": set(FREE_PHASES),
    }
    assert "baseline is `baseline`" in line


def test_every_exit_code_stands_in_its_table() -> None:
    table = README.partition("## Exit codes")[2].partition("These are")[0]

    assert {
        int(code) for row in table.splitlines() for code in re.findall(r"\d+", row.split("|")[1] if "|" in row else "")
    } == {int(code) for code in ExitCode}


def test_every_make_target_that_is_shown_exists_and_every_one_is_explained() -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
    explained = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.M))
    phony = set(next(re.finditer(r"^\.PHONY: (.*)$", MAKEFILE, re.M)).group(1).split())

    assert set(re.findall(r"\bmake ([a-z]+)\b(?! all| are)", README)) <= targets | {"the", "load", "test"}
    assert targets == explained == phony


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    anchors = re.findall(r"\]\(#([^)]+)\)", README)
    headings = {
        re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", README, re.M)
    }

    assert links
    assert set(anchors) <= headings
    assert [link for link in links if not (ROOT / link).exists()] == []
