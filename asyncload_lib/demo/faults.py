"""Faults that a chat request can ask for: `?fault=<name>` or `?fault=<name>:<number>`; only with `--faults`.

| fault         | what the client sees                                                        |
|---------------|-----------------------------------------------------------------------------|
| status:503    | this status instead of an answer                                            |
| delay:1.5     | the answer, that many seconds later                                         |
| block:0.05    | the answer, after the server's loop stood still for that many seconds       |
| break         | the body breaks off in the middle and the connection is closed              |
| error         | chat: `"success": false` with status 200; stream: an `error` event          |
| no_end        | a stream that is closed in order, without `end`                             |
"""

import time
from dataclasses import dataclass

from fastapi import HTTPException

from asyncload_lib.demo.backends import Backend

__all__ = ["FAULTS", "BrokenOffError", "Fault", "parse_fault"]

FAULTS = {"status": 503.0, "delay": 1.0, "block": 0.05, "break": None, "error": None, "no_end": None}
"""Every fault with the number it takes when none is given; None: it takes none."""


class BrokenOffError(Exception):
    """Raised inside a response body so that the server closes the connection in the middle."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault asked for by one request; `name` is empty when there is none."""

    name: str = ""
    number: float = 0.0

    async def before(self, backend: Backend) -> None:
        """Apply what happens before an answer: a status raises HTTPException, the rest takes its time."""
        if self.name == "status":
            raise HTTPException(int(self.number), "asked for by ?fault=status")
        if self.name == "delay":
            await backend.wait(self.number)
        if self.name == "block":
            time.sleep(self.number)  # on purpose on the loop's thread, in every mode


def parse_fault(text: str | None, allowed: bool) -> Fault:
    """Return the fault of a query parameter; raises HTTPException 400 on an unknown one or when faults are off."""
    if not text:
        return Fault()
    if not allowed:
        raise HTTPException(400, "faults are off: start the demo with --faults")
    name, _, number = text.partition(":")
    if name not in FAULTS:
        raise HTTPException(400, f"unknown fault {name!r}; there are: {', '.join(FAULTS)}")
    default = FAULTS[name]
    if default is None:
        if number:
            raise HTTPException(400, f"fault {name!r} takes no number, got {number!r}")
        return Fault(name)
    try:
        value = float(number) if number else default
    except ValueError:
        value = -1.0
    if not (400 <= value <= 599 if name == "status" else 0 <= value <= 30):
        limits = "400 to 599" if name == "status" else "0 to 30 seconds"
        raise HTTPException(400, f"fault {name!r} takes {limits}, got {number!r}")
    return Fault(name, value)
