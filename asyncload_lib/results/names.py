"""How the files of a run are called: after the second in which it ended (UTC), the reports like the results."""

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["free_timestamps", "report_path", "results_path"]


def results_path(directory: Path, timestamp: str) -> Path:
    """Return where the results stand; `timestamp`: YYYYMMDD_HHMMSS."""
    return directory / f"async_load_test_results_{timestamp}.json"


def report_path(directory: Path, timestamp: str, ending: str) -> Path:
    """Return where the report in one format (`md`, `html`, `xml`) stands."""
    return directory / f"async_load_test_report_{timestamp}.{ending}"


def free_timestamps(directory: Path, first: Iterable[str] = ()) -> Iterator[str]:
    """Yield timestamps that no report has so far: of `first`, then of the seconds from now on, without end."""
    seconds = (time.strftime("%Y%m%d_%H%M%S", time.gmtime(second)) for second in itertools.count(int(time.time())))
    for timestamp in itertools.chain(first, seconds):
        if not any(directory.glob(report_path(directory, timestamp, "*").name)):
            yield timestamp
