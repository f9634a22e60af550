"""What the person at the terminal is told of a run that cannot begin."""

import sys

from asyncload_lib.errors import AsyncloadError, ConfigurationError, ExitCode

__all__ = ["tell"]


def tell(error: AsyncloadError) -> ExitCode:
    """Print what kept a run from beginning and return the exit code for it."""
    for problem in str(error).splitlines():
        print(f"asyncload: {problem}", file=sys.stderr)
    if not isinstance(error, ConfigurationError):
        return ExitCode.LOCUST_FAILURES
    print("asyncload: nothing was sent", file=sys.stderr)
    return ExitCode.BAD_CONFIGURATION
