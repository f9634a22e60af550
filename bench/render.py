"""Results as Markdown: the whole of a run, and the part of it that the README shows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.model import Column, Outcome, Spread, Table

__all__ = ["load", "markdown", "performance", "save"]

SHOWN = ("chat", "redis")
"""The tables that the README shows in full."""


def save(run: dict[str, Any], tables: list[Table], directory: Path, stamp: str) -> Path:
    """Write `bench_STAMP.json` and `.md`; return the path of the first."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"bench_{stamp}.json"
    path.write_text(json.dumps({**run, "tables": [table.to_json() for table in tables]}, indent=1, allow_nan=False))
    path.with_suffix(".md").write_text(markdown(run, tables))
    return path


def load(path: Path) -> tuple[dict[str, Any], list[Table]]:
    """Return what `save` wrote."""
    run = json.loads(path.read_text())
    return run, [Table.from_json(plain) for plain in run["tables"]]


def markdown(run: dict[str, Any], tables: list[Table]) -> str:
    """Return every table of a run, after its goals and its machine."""
    parts = ["# Benchmark", "", *_machine(run), "", *_goals(tables), ""]
    for table in tables:
        parts += [f"## {table.title}", "", *_table(table), ""]
    return "\n".join(parts)


def performance(run: dict[str, Any], tables: list[Table]) -> str:
    """Return the README's section: the goals with what was observed, and the tables that compare speed."""
    parts = [*_machine(run), "", *_goals(tables), ""]
    for table in tables:
        if table.key in SHOWN:
            parts += [f"**{table.title}**", "", *_table(table), ""]
    return "\n".join(parts).rstrip() + "\n"


def _machine(run: dict[str, Any]) -> Iterator[str]:
    machine = run["machine"]
    yield (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, {machine['system']}, CPython "
        f"{machine['python']}; load average before the run {machine['load_before'][0]:g}; "
        f"{'quick run, ' if run['quick'] else ''}{run['date'][:10]}, {run['duration_s'] / 60:.0f} minutes. "
        "Contenders are measured in turn, round after round; a ratio is the median of the rounds' ratios, the range "
        "in brackets their lowest and highest."
    )
    if again := [f"{name} ({date[:10]})" for name, date in run["rows"].items() if date != run["date"]]:
        yield ""
        yield f"Measured again: {', '.join(again)}."
    yield ""
    yield "Versions: " + ", ".join(f"{name} {number}" for name, number in machine["versions"].items()) + "."
    if run["missing"]:
        yield ""
        yield "Not there: " + ", ".join(f"{name} ({why})" for name, why in run["missing"].items()) + "."


def _goals(tables: list[Table]) -> Iterator[str]:
    yield "| goal | observed | |"
    yield "|---|---|---|"
    for table in tables:
        for outcome in table.outcomes():
            yield f"| {table.title}: {table.wording(outcome.goal)} | {_observed(table, outcome)} | {outcome.verdict} |"


def _observed(table: Table, outcome: Outcome) -> str:
    if outcome.observed is None:
        return "; ".join(
            f"{name}: {table.failures[name]}"
            for name in (outcome.goal.contender, outcome.goal.against or "")
            if name in table.failures
        )
    suffix = "x" if outcome.goal.against is not None else ""
    return _spread(outcome.observed, 3, suffix)


def _table(table: Table) -> Iterator[str]:
    heads = ["", *(column.unit for column in table.columns)]
    if table.against is not None:
        heads.append(f"of {table.against}")
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for contender in table.contenders:
        cells = [contender, *(_cell(table, contender, column) for column in table.columns)]
        if table.against is not None:
            ratio = table.ratio(contender, table.against, table.columns[0].name)
            cells.append("" if ratio is None else "1" if contender == table.against else _spread(ratio, 3, "x"))
        yield "| " + " | ".join(cells) + " |"
    for name, why in table.failures.items():
        yield f"\n{name} was not measured: {why}."
    for note in table.notes:
        yield f"\n{note}."


def _cell(table: Table, contender: str, column: Column) -> str:
    spread = table.spread(contender, column.name)
    return "" if spread is None else _spread(spread, column.digits)


def _spread(spread: Spread, digits: int, suffix: str = "") -> str:
    middle = _number(spread.median, digits) + suffix
    if spread.rounds < 2:
        return middle
    return f"{middle} ({_number(spread.low, digits)} - {_number(spread.high, digits)})"


def _number(value: float, digits: int) -> str:
    """Return `digits` significant digits, thousands parted, never in powers of ten."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    rounded = float(text)
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"
