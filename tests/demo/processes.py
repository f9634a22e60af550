"""Helpers that look at processes from outside, by condition and with a deadline."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def is_gone(pid: int) -> bool:
    """Say whether a process has ended; a zombie that nobody has collected yet has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def in_session(session: int) -> list[int]:
    """Return the processes of a session, which a child whose parent has ended does not leave."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            found += [int(entry.name)] if int(of) == session and state != "Z" else []
    return found


def still_there(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if not is_gone(pid)]


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
