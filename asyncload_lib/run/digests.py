"""Which code a process runs, in a form that two processes can compare."""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["locustfiles_digest", "package_digest"]

PACKAGE = Path(__file__).parent.parent


@functools.cache
def package_digest() -> str | None:
    """Return what is equal for equal source files of this package, from when it was first asked for."""
    return _digest(f"{path.relative_to(PACKAGE)} {_of_file(path)}" for path in PACKAGE.rglob("*.py"))


def locustfiles_digest(paths: Sequence[str] | None) -> str | None:
    """Return what is equal for equal contents of locustfiles, wherever they lie; None without any."""
    return _of_locustfiles(tuple(paths)) if paths else None


@functools.cache
def _of_locustfiles(paths: tuple[str, ...]) -> str | None:
    return _digest(_of_file(Path(path)) for path in paths)


def _digest(parts: Iterable[str]) -> str | None:
    try:
        return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()
    except OSError:  # nothing to read: it came out of an archive, or is gone
        return None


def _of_file(path: Path) -> str:
    # A locustfile that was downloaded from the master has this machine's line ends.
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
