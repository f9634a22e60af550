"""A report stands under a second that no other report has."""

import itertools
import time
from pathlib import Path

import pytest

from asyncload_lib.results.names import free_timestamps, report_path, results_path


def test_a_timestamp_with_a_report_in_any_format_is_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.9)
    report_path(tmp_path, "20010909_014641", "xml").touch()
    report_path(tmp_path, "20000101_000000", "html").touch()
    results_path(tmp_path, "20010909_014642").touch()  # its reports may still be made
    free = free_timestamps(tmp_path, ["20000101_000000", "19990101_000000"])
    assert [*itertools.islice(free, 3)] == ["19990101_000000", "20010909_014640", "20010909_014642"]


def test_in_a_directory_that_is_not_there_all_are_free(tmp_path: Path) -> None:
    assert next(free_timestamps(tmp_path / "none", ["20000101_000000"])) == "20000101_000000"
