"""Files are whole or absent, never overwritten by accident, and refused with a name and a reason."""

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.errors import ReportError, ResultError
from asyncload_lib.results.files import dump, load, write_atomic
from tests.results.sample import sample_results


def test_round_trip(tmp_path: Path) -> None:
    results = sample_results()
    dump(results, tmp_path / "results.json")
    assert load(tmp_path / "results.json") == results
    assert os.listdir(tmp_path) == ["results.json"]
    assert stat.S_IMODE((tmp_path / "results.json").stat().st_mode) & 0o600 == 0o600


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("the first run")
    with pytest.raises(FileExistsError, match="not overwritten"):
        dump(sample_results(), path)
    assert path.read_text() == "the first run"
    assert os.listdir(tmp_path) == ["results.json"]


def test_without_hard_links_an_existing_file_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    write_atomic(tmp_path / "a.txt", "one")
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "a.txt", "two")
    assert (tmp_path / "a.txt").read_text() == "one"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_overwriting_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "latest.json").symlink_to(tmp_path / "victim")
    dump(sample_results(), tmp_path / "latest.json", overwrite=True)
    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (tmp_path / "latest.json").is_symlink()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "latest.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError, match=r"latest\.json: cannot be written: No space left"):
        dump(sample_results(), path, overwrite=True)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["latest.json"]


def test_a_file_whose_directory_cannot_be_synced_was_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def refused(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    write_atomic(tmp_path / "a.txt", "one")
    assert (tmp_path / "a.txt").read_text() == "one"


def test_a_missing_directory_is_a_report_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="No such file"):
        dump(sample_results(), tmp_path / "absent" / "results.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_is_no_json_is_not_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ReportError, match="not JSON"):
        dump({**sample_results(), "generator": {"ratio": value}}, tmp_path / "results.json")
    assert os.listdir(tmp_path) == []


def test_a_lone_surrogate_does_not_cost_the_report(tmp_path: Path) -> None:
    dump({**sample_results(), "test_suite": "a\ud800b"}, tmp_path / "results.json")
    assert load(tmp_path / "results.json")["test_suite"] == "a?b"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ('{"schema_version": 1', "is not JSON"),
        ('{"schema_version": 1, "run": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "no schema_version"),
        ('{"metrics": []}', "no schema_version"),
        ('{"schema_version": true}', "no schema_version"),
        ('{"schema_version": 2}', "schema version 2"),
        ('{"schema_version": 1, "run": {}, "metrics": {}, "criteria": [], "summary": {}}', "'metrics' must be list"),
        ('{"schema_version": 1, "run": {}, "metrics": [], "criteria": []}', "'summary' must be dict, not NoneType"),
    ],
)
def test_what_is_no_result_is_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=problem) as refused:
        load(path)
    assert str(path) in str(refused.value)


def test_unreadable_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.json", "binary.json", "."):
        with pytest.raises(ResultError, match=rf"^{re.escape(str(tmp_path / name))}: (cannot be read|is not JSON): "):
            load(tmp_path / name)
