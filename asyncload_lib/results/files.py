"""Results on disk: whole files or none, and nothing that was measured is ever overwritten by accident."""

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any, NoReturn

from asyncload_lib.errors import ReportError, ResultError

__all__ = ["SCHEMA_VERSION", "dump", "load", "write_atomic"]

MOST_DIGITS = 300
"""Of a whole number: what is longer is no float."""

SCHEMA_VERSION = 1
"""Version of the results document; `schema.json` beside this file describes it.

1  first: run, metrics, criteria, generator, workers, summary
"""


def dump(results: dict[str, Any], path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write results as JSON; raises FileExistsError rather than overwrite, ReportError if it cannot be written."""
    try:
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ReportError(f"{path}: the results are not JSON: {error}") from error
    write_atomic(path, text + "\n", overwrite=overwrite)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read results; raises ResultError, naming file and problem, on anything that `dump` cannot have written."""
    try:
        results = json.loads(Path(path).read_text("utf-8"), parse_constant=_refuse_constant, parse_int=_whole)
    except OSError as error:
        raise ResultError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path}: is not JSON: {error}") from error
    version = results.get("schema_version") if isinstance(results, dict) else None
    if type(version) is not int:
        raise ResultError(f"{path}: holds no asyncload results: it has no schema_version")
    if version != SCHEMA_VERSION:
        raise ResultError(f"{path}: has schema version {version}; this asyncload reads version {SCHEMA_VERSION}")
    for key, kind in (("run", dict), ("metrics", list), ("criteria", list), ("summary", dict)):
        if not isinstance(results.get(key), kind):
            raise ResultError(f"{path}: {key!r} must be {kind.__name__}, not {type(results.get(key)).__name__}")
    for metric in results["metrics"]:
        if not isinstance(metric, dict) or not isinstance(metric.get("scenario"), str):
            raise ResultError(f"{path}: one of 'metrics' names no 'scenario'")
    return dict(results)


def write_atomic(path: str | os.PathLike[str], text: str, *, overwrite: bool = False) -> None:
    """Write a text file so that a reader finds all of it or none, whenever the process or the machine stops.

    Raises FileExistsError if the file exists and `overwrite` is false, ReportError if the file system refuses.
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _publish(draft, target, overwrite)
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise ReportError(f"{target}: cannot be written: {error.strerror or error}") from error
    with contextlib.suppress(OSError):  # the file is there; only its name may not outlive a power failure
        _sync_directory(target.parent)


def _publish(draft: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        draft.replace(target)
        return
    try:
        os.link(draft, target)  # the only call that both publishes whole and refuses an existing name
    except FileExistsError:
        raise FileExistsError(f"{target}: exists already and is not overwritten") from None
    except OSError:  # a file system without hard links: claim the name, then replace the claim
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        draft.replace(target)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits is more than anybody has counted")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
