"""Results as JUnit XML: one suite per scenario, one case per criterion, so that a CI shows the criteria as tests."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from asyncload_lib.report.entries import Entry, items, mapping, mappings
from asyncload_lib.report.text import clean
from asyncload_lib.report.view import WHY_LENGTH, build
from asyncload_lib.results.figures import number

__all__ = ["render_junit"]

_OUTCOME = {"fail": "failure", "no data": "error", "not evaluated": "skipped"}


def render_junit(results: Mapping[str, Any]) -> str:
    """Render JUnit XML; `fail` is a failure, `no data` an error, `not evaluated` skipped.

    A suite `run` carries the verdict on the run itself: an incomplete or invalid run is an error even where every
    criterion holds, one that failed though no criterion did is a failure, and one that nothing was asked of is skipped.
    """
    metrics = {str(metric.get("scenario")): metric for metric in mappings(results.get("metrics"))}
    groups: dict[str, list[Entry]] = {scenario: [] for scenario in metrics}
    for criterion in mappings(results.get("criteria")):
        groups.setdefault(str(criterion.get("scenario")), []).append(criterion)
    root = ET.Element("testsuites", name=clean(results.get("test_suite") or "Load test", 120))
    _run_suite(root, results)
    for scenario, criteria in groups.items():
        _scenario_suite(root, scenario, metrics.get(scenario, {}), criteria)
    _count(root, list(root))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _run_suite(root: ET.Element, results: Mapping[str, Any]) -> None:
    run, summary = mapping(results.get("run")), mapping(results.get("summary"))
    suite = ET.SubElement(root, "testsuite", name="run", timestamp=clean(results.get("timestamp"), 40))
    properties = ET.SubElement(suite, "properties")
    facts = {"run": run.get("id"), "seed": run.get("seed"), "target": mapping(run.get("target")).get("host")}
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=name, value=clean(value))
    case = ET.SubElement(suite, "testcase", classname="asyncload.run", name="the run is complete and its figures hold")
    word = str(summary.get("verdict"))
    if word == "not evaluated":
        ET.SubElement(case, "skipped", message=build(results).sentence)
    elif word not in ("pass", "fail"):
        reasons = items(run.get("status_reasons")) or [f"verdict: {clean(word)}"]
        ET.SubElement(case, "error", type=clean(word, 40), message="; ".join(clean(reason) for reason in reasons))
    elif word == "fail" and all(_holds(criterion) for criterion in mappings(results.get("criteria"))):
        ET.SubElement(case, "failure", type="fail", message=build(results).sentence)
    _count(suite, [case])


def _holds(criterion: Entry) -> bool:
    return criterion.get("verdict") in ("pass", "not evaluated")


def _scenario_suite(root: ET.Element, scenario: str, metric: Entry, criteria: list[Entry]) -> None:
    name = clean(metric.get("test_name") or scenario, 120)
    suite = ET.SubElement(root, "testsuite", name=name, time=_seconds(metric.get("total_time")))
    for criterion in criteria:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"asyncload.{clean(scenario, 60)}",
            name=clean(criterion.get("name"), WHY_LENGTH),
            time="0",
        )
        word = str(criterion.get("verdict"))
        if word == "pass":
            continue
        observed = clean(criterion.get("observed") or "no data", 60)
        message = f"limit {clean(criterion.get('limit'), 60)}, observed {observed}"
        # A word that nobody knows is an error: what is not a pass must never look like one.
        outcome = ET.SubElement(case, _OUTCOME.get(word, "error"), message=message)
        if outcome.tag != "skipped":
            outcome.set("type", clean(word, 40))
        outcome.text = clean(criterion["why"], WHY_LENGTH) if criterion.get("why") else None
    _count(suite, list(suite.iter("testcase")))


def _seconds(value: Any) -> str:
    found = number(value)
    return f"{0.0 if found is None else found:.6f}"


def _count(element: ET.Element, children: list[ET.Element]) -> None:
    """Write the totals every JUnit reader expects; `element` is a suite over cases, or all suites."""
    cases = [case for child in children for case in child.iter("testcase")]
    element.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
