"""What the person at the terminal is told: lines about the run, and why one cannot begin."""

import sys

from asyncload_lib.errors import AsyncloadError, ConfigurationError, ExitCode

__all__ = ["say", "tell"]


def say(text: str) -> None:
    """Print a line about the run."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(error: AsyncloadError) -> ExitCode:
    """Print what kept a run from beginning and return the exit code for it."""
    for problem in str(error).splitlines():
        print(f"asyncload: {problem}", file=sys.stderr)
    if not isinstance(error, ConfigurationError):
        return ExitCode.LOCUST_FAILURES
    print("asyncload: nothing was sent", file=sys.stderr)
    return ExitCode.BAD_CONFIGURATION
