"""What the HTTP library leaves undone: failures in words that a report can count, and cancellations it swallows."""

import asyncio

from pyreqwest.exceptions import DecodeError, PyreqwestError, ReadTimeoutError

__all__ = [
    "AnswerTimeoutError",
    "BadAnswerError",
    "BodyTimeoutError",
    "Cancellations",
    "ConnectTimeoutError",
    "ConnectionBrokenError",
    "ConnectionFailedError",
    "TransportError",
    "transport_error",
]


class TransportError(Exception):
    """No answer came, or only a part of one."""


class ConnectionFailedError(TransportError):
    """There was no connection: refused, unreachable, a name that does not resolve, a certificate not accepted."""


class ConnectTimeoutError(TransportError, TimeoutError):
    """There was no connection in time."""


class AnswerTimeoutError(TransportError, TimeoutError):
    """The request was sent, and no answer began in time."""


class BodyTimeoutError(TransportError, TimeoutError):
    """The answer began and did not end in time."""


class ConnectionBrokenError(TransportError):
    """The connection was closed before the answer was whole."""


class BadAnswerError(TransportError):
    """What came is not HTTP, or not encoded as its headers say."""


def transport_error(error: PyreqwestError) -> TransportError:
    """Return the same failure under its own name, with its innermost cause as text.

    The client's own texts hold the URL and bury the cause, and it calls every timeout before the first header a
    connection timeout.
    """
    details = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], dict) else {}
    causes = [cause["message"] for cause in details.get("causes") or ()]
    connecting = "client error (Connect)" in causes
    if isinstance(error, TimeoutError):
        if connecting:
            return ConnectTimeoutError("no connection in time")
        if isinstance(error, ReadTimeoutError):
            return BodyTimeoutError("the answer did not end in time")
        return AnswerTimeoutError("no answer in time")
    text = causes[-1] if causes else error.message
    if connecting:
        return ConnectionFailedError(text)
    if "error reading a body from connection" in causes:
        return ConnectionBrokenError(f"the answer broke off: {text}")
    if isinstance(error, DecodeError):
        return BadAnswerError(text)
    return ConnectionBrokenError(text)


class Cancellations:
    """Raises a cancellation that an awaitable of the library has swallowed, as it does when its result has just come.

    Make it before the await, in the task that awaits.
    """

    __slots__ = ("_before", "_task")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()

    def check(self) -> None:
        """Raise CancelledError if the task was cancelled since this was made."""
        if self._task.cancelling() > self._before:
            raise asyncio.CancelledError
