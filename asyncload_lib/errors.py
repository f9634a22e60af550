"""Everything asyncload raises, and every way a run can end.

AsyncloadError
  ConfigurationError   settings, criteria or locustfile are wrong; raised before anything is sent
  TargetError          the embedded target did not start or died
  ResultError          a results file cannot be read or does not fit
  ReportError          a report could not be written
"""

from collections.abc import Sequence
from enum import IntEnum

__all__ = ["AsyncloadError", "ConfigurationError", "ExitCode", "ReportError", "ResultError", "TargetError"]


class ExitCode(IntEnum):
    """How a run ended; every command of asyncload leaves with one of these."""

    PASS = 0
    """All criteria pass."""
    LOCUST_FAILURES = 1
    """Locust's own: requests failed and no criterion was evaluated, or start-up failed, that of the demo too."""
    LOCUST_USAGE = 2
    """Locust's own: unknown option, or an exception in an event handler."""
    CRITERIA_FAILED = 3
    """A criterion failed, or had no data."""
    INCOMPLETE = 4
    """A worker was lost, or there is no data: criteria are shown but not certified."""
    REPORT_FAILED = 5
    """The report could not be written."""
    INVALID = 6
    """The load generator itself was the bottleneck: the figures say nothing about the target."""
    BAD_CONFIGURATION = 64
    """Bad configuration; nothing was sent."""
    HUNG_UP = 129
    """SIGHUP, as when the terminal is closed; a report was written and says so, unless the run had not begun."""
    INTERRUPTED = 130
    """Ctrl-C; a report was written and says so, unless the run had not begun, or Ctrl-C came twice."""
    TERMINATED = 143
    """SIGTERM; a report was written and says so, unless the run had not begun."""

    @classmethod
    def of_signal(cls, number: int) -> "ExitCode":
        """Return how a process ends in order that SIGHUP, SIGINT or SIGTERM ended: as a shell would tell it."""
        return cls(128 + number)


class AsyncloadError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(AsyncloadError):
    """Something the user wrote is wrong; carries every problem found, not only the first.

    `problems`: one sentence each, naming the key, what came and what is allowed.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class TargetError(AsyncloadError):
    """The embedded target did not start, or died before the run was over."""


class ResultError(AsyncloadError):
    """A results file cannot be read, or is of another schema version."""


class ReportError(AsyncloadError):
    """A report could not be written."""
