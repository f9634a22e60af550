"""Log records of other threads are handled on the hub.

gevent replaces the locks of `logging`. A lock that two OS threads want at the same moment can lose its waiter:
measured, a hub and a loop thread that both log hang within seconds. So all other threads hand their records over.
"""

import logging
from collections.abc import Callable

from asyncload_lib.eventloop.native import native

__all__ = ["keep_logging_on_this_thread"]

_call_handlers = logging.Logger.callHandlers


def keep_logging_on_this_thread(hand_over: Callable[..., None]) -> None:
    """Have records of any other thread go through `hand_over(function, *args)`; a second call replaces the first."""
    identify = native("threading", "get_ident")
    home = identify()

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        if identify() == home:
            _call_handlers(logger, record)
        else:
            hand_over(_call_handlers, logger, record)

    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign, assignment]
    # The module's own lock (getLogger, the cache of levels) need only keep threads apart, not greenlets.
    logging._lock = native("threading", "RLock")()  # type: ignore[attr-defined]
