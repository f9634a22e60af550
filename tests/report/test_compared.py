"""A comparison as text: in a Markdown file and on a terminal."""

import copy
from typing import Any

from asyncload_lib.report.compared import compared_markdown, compared_plain
from asyncload_lib.verdict.comparison import compare
from tests.results.sample import sample_results

Results = dict[str, Any]

SAMPLE = sample_results()


def two_runs() -> tuple[Results, Results]:
    return copy.deepcopy(SAMPLE), copy.deepcopy(SAMPLE)


def chat(results: Results) -> Results:
    entry: Results = results["metrics"][0]
    return entry


def test_markdown_has_a_table_for_each_scenario() -> None:
    before, after = two_runs()
    before["metrics"][0]["total_time"] *= 10
    comparison = compare(before, after)
    text = compared_markdown(comparison)
    assert text.startswith(f"# a4c1e9d2 -> a4c1e9d2: {comparison['words']}\n")
    assert text.count("\n## ") == 4
    tables = [[line for line in part.splitlines() if line.startswith("|")] for part in text.split("\n## ")[1:]]
    for table, rows in zip(tables, (7 + 1 + 2 * 4, 7, 7 + 2 * 4, 7), strict=True):
        assert len(table) == 2 + rows
        assert len({len(line) for line in table}) == 1
        assert {line.count("|") for line in table} == {5}
    assert "| total_time" in tables[0][2]
    assert "10.0x faster (" in tables[0][2]


def test_what_is_not_comparable_says_why() -> None:
    before, after = two_runs()
    after["run"]["seed"] = 2
    text = compared_markdown(compare(before, after))
    assert "- not comparable: seed was 1 and is 2\n" in text
    assert "|" not in text


def test_nothing_that_others_wrote_is_markup() -> None:
    before, after = two_runs()
    before["run"]["id"] = chat(after)["test_name"] = "a|b\n<script> [x](http://y) `*"
    text = compared_markdown(compare(before, after))
    assert "<script>" not in text
    assert "## a\\|b &lt;script> \\[x\\](http:\u200b//y) \\`\\*\n" in text


def test_on_a_terminal_nothing_is_escaped_and_nothing_obeyed() -> None:
    before, after = two_runs()
    before["criteria"][0]["name"] = after["criteria"][0]["name"] = "chat p95 <2 s | x"
    after["criteria"][0]["verdict"] = "fail"
    before["run"]["id"] = "a\x1b[31m\nb"
    comparison = compare(before, after)
    told = compared_plain(comparison)
    assert '"chat p95 <2 s | x" was pass and is fail' in told
    assert told.startswith("# a\\x1b[31m b -> ")
    assert "chat p95 <2 s \\| x" in compared_markdown(comparison)
    same = compare(after, after)
    assert compared_plain(same) == compared_markdown(same)
