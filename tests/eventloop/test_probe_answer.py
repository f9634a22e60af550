"""Whose findings stand for the target: only a probe's, and only those since a reset that was confirmed."""

import json
from dataclasses import replace
from typing import Any

import pytest

from asyncload_lib.eventloop.findings import Findings
from asyncload_lib.eventloop.probe_answer import Confirmation, answer_of, confirmed, inside_rows, strangers

RESET = Confirmation(100.0, 100.2, frozenset({7, 8}))


def findings(pid: int = 7, watched_s: float = 10.0, **changes: Any) -> dict[str, Any]:
    watched = Findings(0, 0.01, 0.003)
    watched.lag(0, 1)
    return {"pid": pid, "worker": pid - 6, **watched.report("target", int(watched_s * 1e9)), **changes}


def rows(*workers: dict[str, Any], confirmation: Confirmation | None = RESET) -> list[dict[str, Any]]:
    body = json.dumps({"workers": workers, "problem": ""}).encode()
    answer = answer_of(body, reset=False)
    assert answer is not None
    return inside_rows(answer, confirmation, 110.0, 110.1)


def test_workers_that_began_anew_are_judged() -> None:
    first, second = rows(findings(7), findings(8))

    assert (first["blocked"], second["blocked"]) == (False, False)
    assert (first["name"], first["witness"], first["process"]) == ("target", "inside", "worker 1, pid 7")
    assert "pid" not in first


@pytest.mark.parametrize(
    ("workers", "confirmation", "why"),
    [
        ([findings(7), findings(8)], None, "did not confirm"),
        ([findings(7), findings(8)], Confirmation(100, 110, frozenset(), "ReadTimeout"), "ReadTimeout"),
        ([findings(7), findings(9)], Confirmation(100.0, 100.2, frozenset({7})), "load balancer"),
        # the same pid in another container, which was never reset; somebody else reset it meanwhile
        ([findings(7), findings(8, watched_s=3600.0)], RESET, "has watched for 3600.0 s"),
        ([findings(7), findings(8, watched_s=2.0)], RESET, "has watched for 2.0 s, but 10.1 s"),
        ([findings(7), {"pid": 8, "worker": 2, "silent": "worker 8 did not answer"}], RESET, "did not answer"),
        ([findings(7), {"pid": None, "worker": 2, "silent": "no sockets"}], RESET, "no sockets"),
        ([findings(7)], RESET, "missing at the end"),
    ],
)
def test_a_worker_whose_findings_prove_nothing_is_not_judged(
    workers: list[dict[str, Any]], confirmation: Confirmation | None, why: str
) -> None:
    unjudged = [row for row in rows(*workers, confirmation=confirmation) if row["blocked"] is None]

    assert unjudged
    assert any(why in row["note"] for row in unjudged)


@pytest.mark.parametrize(
    ("worker", "blocked"),
    [
        (findings(7), False),
        (findings(7, blocked=True), True),
        (findings(7, watched_s=2.0, blocked=True), True),
        (findings(7, watched_s=2.0), None),  # what it saw before it began anew is forgotten
        (findings(7, watched_s=3600.0, blocked=True), None),
    ],
)
def test_a_worker_that_may_have_begun_anew_once_more_is_condemned_by_less_than_acquits_it(
    worker: dict[str, Any], blocked: bool | None
) -> None:
    confirmation = replace(RESET, asked_again=True)
    (row, other) = rows(worker, findings(8), confirmation=confirmation)

    assert (row["blocked"], other["blocked"]) == (blocked, False)
    assert "did not confirm in time" in other["note"]
    answer = {"workers": [worker], "problem": ""}
    assert bool(strangers(answer, confirmation, 110.0, 110.1)) is (worker["watched_s"] > 10.2)


@pytest.mark.parametrize(
    ("worker", "why"),
    [
        (findings(7), None),
        (findings(9), "load balancer"),
        (findings(7, watched_s=3600.0), "has watched for 3600.0 s"),  # the same pid in another container
        ({"pid": 9, "worker": 1, "silent": "worker 9 did not answer"}, "did not answer"),
        ({"pid": 7, "worker": 1, "silent": "worker 7 did not answer"}, None),
        ({"pid": None, "worker": 1, "silent": "no sockets"}, None),
    ],
)
def test_a_worker_that_is_none_of_those_that_began_anew_is_found(worker: dict[str, Any], why: str | None) -> None:
    found = strangers({"workers": [findings(8), worker]}, RESET, 110.0, 110.1)

    assert list(found) == ([] if why is None else [worker["pid"]])
    assert why is None or why in found[worker["pid"]]


def test_others_are_told_once_with_why() -> None:
    answer = {"workers": [findings(7), findings(9)], "problem": ""}
    why = "they did not begin anew"
    found = inside_rows(answer, RESET, 110.0, 110.1, {9: why, 10: why, None: why})

    assert [row["blocked"] for row in found] == [False, None, None, None]
    assert "pid 9" in found[1]["process"]  # as the reading itself has it
    assert "pid 8" in found[2]["process"]  # which is missing at the end
    assert found[3]["note"] == f"Not judged: another connection was answered by pid 10, a server: {why}."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b'{"detail": "ok"}',
        b"[]",
        b'{"workers": []}',
        b'{"workers": [{"pid": 1}]}',
        b'{"workers": [{"worker": 1, "pid": 1, "reset": true}]}',
        b'{"workers": [{"worker": 1, "silent": "no sockets"}]}',
        json.dumps({"workers": [findings(max_stall=float("nan"))]}).encode(),
        json.dumps({"workers": [findings()]}).replace('"max_stall": 0.0', '"max_stall": 1e999').encode(),
        json.dumps({"workers": [findings(lag={"p50": "fast"})]}).encode(),
        json.dumps({"workers": [findings(culprits=["line 7"])]}).encode(),
        json.dumps({"workers": [findings(blocked="no")]}).encode(),
        json.dumps({"workers": [{key: value for key, value in findings().items() if key != "blocked"}]}).encode(),
        json.dumps({"workers": [findings(lag={"p50": 0.001, "p99": 0.001})]}).encode(),
        json.dumps({"workers": [findings(by_cause={"loop": {"stalls": "one"}})]}).encode(),
        json.dumps({"workers": [findings(culprits=[{"line": 7, "count": None}])]}).encode(),
        json.dumps({"workers": [findings(), {}]}).encode(),
    ],
)
def test_what_is_no_probes_answer_is_refused(body: bytes) -> None:
    assert answer_of(body, reset=False) is None


def test_only_workers_that_say_so_have_begun_anew() -> None:
    workers = [{"worker": 1, "pid": 7, "reset": True}, {"worker": 2, "pid": 8, "silent": "no"}]
    answer = answer_of(json.dumps({"workers": workers}).encode(), reset=True)

    assert answer is not None
    assert confirmed(answer) == {7}
    assert answer_of(b'{"workers": [{"worker": 1, "pid": 7}]}', reset=True) is None
