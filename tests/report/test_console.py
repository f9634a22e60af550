import pytest

from asyncload_lib.report.console import WIDTH, _width, console_table
from tests.report.cases import CASES, HOSTILE, hostile


@pytest.mark.parametrize("case", CASES)
def test_the_table_fits_a_terminal(case: str) -> None:
    assert max(map(_width, console_table(CASES[case]()).split("\n"))) <= WIDTH


@pytest.mark.parametrize(("text", "columns"), [("p95", 3), ("中文", 4), ("e\u0301", 1), ("中e\u0301 ✓", 5), ("", 0)])
def test_a_wide_character_takes_two_columns_and_a_combining_one_none(text: str, columns: int) -> None:
    assert _width(text) == columns


def test_columns_stand_under_each_other() -> None:
    lines = console_table(CASES["failing"]()).split("\n")
    head = next(line for line in lines if line.startswith("Verdict"))
    rows = [line for line in lines if line[:1] in ("✓", "✗")]
    assert len(rows) == 9
    for title in ("Criterion", "Limit", "Observed"):
        column = head.index(title)
        assert all(line[column - 2 : column] == "  " and line[column] != " " for line in rows)


def test_it_begins_with_the_verdict_and_says_why_where_it_is_needed() -> None:
    lines = console_table(CASES["failing"]()).split("\n")
    assert lines[0].startswith("FAIL: 4 of 9 criteria missed")
    assert "  total_time was 10, the limit is < 5 s" in lines
    assert not any("error_rate was 0" in line for line in lines)  # it passed


def test_a_run_of_which_nothing_was_asked_has_not_passed() -> None:
    told = console_table(CASES["not_judged"]())
    assert told.startswith("NOT EVALUATED: No criterion was evaluated; 0 of 600 requests failed and an event loop was")


def test_a_long_reason_is_indented_once_and_uses_the_whole_width() -> None:
    results = CASES["failing"]()
    results["criteria"][0]["why"] = "a reason " * 14 + "– and more " * 3  # noqa: RUF001
    lines = console_table(results).split("\n")
    at = next(place for place, line in enumerate(lines) if "a reason" in line)
    assert lines[at].startswith("  a reason")
    assert len(lines[at]) > 0.9 * WIDTH
    assert lines[at + 1].startswith("  a reason")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_reaches_no_terminal(text: str) -> None:
    told = console_table(hostile(text))
    assert max(map(_width, told.split("\n"))) <= WIDTH
    assert all(sign == "\n" or sign.isprintable() or sign == "\u200d" for sign in told)


def test_a_criterion_that_does_not_fit_stands_whole_below() -> None:
    results = CASES["failing"]()
    endpoints = [f"chat[POST /api/a/long/way/to/a/place/that/has/a/name/{at}]" for at in (1, 2)]
    for row, endpoint in zip(results["criteria"], endpoints, strict=False):
        row |= {"name": f"{endpoint} time_to_first_token.p95 < 2 s", "limit": "< 2 s"}
    lines = console_table(results).split("\n")
    for endpoint in endpoints:
        assert f"  {endpoint} time_to_first_token.p95" in lines
    results["criteria"] = [{**results["criteria"][0], "name": "chat[POST /api/of/a/middling/length] p95 < 2 s"}]
    (row,) = [line for line in console_table(results).split("\n") if "middling" in line and not line.startswith("FAIL")]
    assert "chat[POST /api/of/a/middling/length] p95  < 2 s" in row  # as long as there is room
