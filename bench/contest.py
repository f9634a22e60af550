"""Contenders measured in turn, round after round, inside a time limit."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench.model import Figures, Table
from bench.peers import Peers
from bench.processes import Process, wait_until

__all__ = ["Bench", "window"]

T = TypeVar("T")

LOADED = 50
"""With more requests than this the target is under load."""


@dataclass
class Bench:
    """One run of the benchmark: what is installed, where to write, how thorough to be, and what is running."""

    directory: Path
    peers: Peers
    quick: bool = False
    ends_s: float = math.inf
    """`time.monotonic()` when the whole run must be over."""
    stack: ExitStack = field(default_factory=ExitStack)
    _running: dict[object, object] = field(default_factory=dict)

    @property
    def window_s(self) -> float:
        """How long a rate is counted."""
        return 1.5 if self.quick else 3.0

    def server(self, key: str, start: Callable[[], T]) -> T:
        """Return the server of this name, started on first use and ended with the benchmark."""
        if key not in self._running:
            server = start()
            self.stack.enter_context(server)  # type: ignore[arg-type]
            self._running[key] = server
        return self._running[key]  # type: ignore[return-value]

    def interleave(
        self, table: Table, contenders: Mapping[str, Callable[[], Figures]], *, rounds: int, limit_s: float
    ) -> Table:
        """Fill `table`: each contender is measured once per round, and each round begins with another one.

        No round begins that would pass `limit_s`, or the end of the run, if it took as long as the longest so far. A
        contender that fails is named in the table and not measured again.
        """
        begun = time.monotonic()
        longest = 0.0
        for number in range(rounds):
            before = time.monotonic()
            if number and before + longest > min(begun + limit_s, self.ends_s):
                break
            table.rounds.append(self._round(table, contenders, number))
            longest = max(longest, time.monotonic() - before)
        return table

    def _round(self, table: Table, contenders: Mapping[str, Callable[[], Figures]], number: int) -> dict[str, Figures]:
        names = [name for name in contenders if name not in table.failures]
        turn = number % max(len(names), 1)
        one: dict[str, Figures] = {}
        for name in [*names[turn:], *names[:turn]]:
            try:
                if time.monotonic() > self.ends_s:
                    raise TimeoutError("the time was up")
                one[name] = contenders[name]()
            except (OSError, TimeoutError, ValueError, LookupError) as error:
                table.failures[name] = str(error)
        return {name: one[name] for name in names if name in one}


def window(process: Process, served: Callable[[], int], seconds: float, *, settle_s: float = 0.7) -> Figures:
    """Count what the target serves while `process` makes load: `rate` (per s), and the generator's `cpu_us` for each.

    The count begins `settle_s` after the load does. Raises TimeoutError with the generator's last words if no load
    comes, ValueError if it ends before the window does.
    """
    start = served()
    try:
        wait_until(lambda: served() - start > LOADED or not process.running, "no load came", 30, 0.05)
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {process.complaint()}") from None
    time.sleep(settle_s)
    count, cpu_s, begun = served(), process.cpu_s(), time.perf_counter()
    time.sleep(seconds)
    done, cpu_s, took_s = served() - count, process.cpu_s() - cpu_s, time.perf_counter() - begun
    if done <= 0 or not process.running:
        raise ValueError(f"the load ended too soon: {process.complaint()}")
    return {"rate": done / took_s, "cpu_us": cpu_s / done * 1e6}
