"""The code that a process runs is told by its contents, not by where it lies."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncload_lib.run import digests


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """Digests are taken once in the life of a process."""
    yield
    digests.package_digest.cache_clear()


def digest_of(package: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    digests.package_digest.cache_clear()
    monkeypatch.setattr(digests, "PACKAGE", package)
    return digests.package_digest()


def test_every_source_file_counts_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = digest_of(digests.PACKAGE, monkeypatch)
    copy = tmp_path / "elsewhere"
    shutil.copytree(digests.PACKAGE, copy)
    (copy / "__pycache__").mkdir(exist_ok=True)
    (copy / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert ours == digest_of(copy, monkeypatch) is not None
    changed = copy / "users" / "chat.py"
    changed.write_text(changed.read_text() + "\n# one line more\n")
    other = digest_of(copy, monkeypatch)
    assert other not in (ours, None)
    changed.rename(changed.with_name("talk.py"))
    assert digest_of(copy, monkeypatch) not in (ours, other, None)


def of_locustfiles(*paths: Path) -> str | None:
    return digests.locustfiles_digest([str(path) for path in paths])


def test_locustfiles_are_told_by_their_contents(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.py" for name in ("one", "same", "dos", "other")}
    for name, content in (("one", "a = 1\n"), ("same", "a = 1\n"), ("dos", "a = 1\r\n"), ("other", "a = 2\n")):
        paths[name].write_bytes(content.encode())
    assert of_locustfiles(paths["one"]) == of_locustfiles(paths["same"]) == of_locustfiles(paths["dos"]) is not None
    assert of_locustfiles(paths["one"]) != of_locustfiles(paths["other"])
    both = of_locustfiles(paths["one"], paths["other"])
    assert both == of_locustfiles(paths["other"], paths["same"])
    assert both not in (of_locustfiles(paths["one"]), of_locustfiles(paths["other"]))
    assert of_locustfiles() is None
