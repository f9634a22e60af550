"""START of the web UI while the test before is still being stopped: Locust would let the two run into each other.

And STOP between two phases of a suite, for which no test runs then: Locust would do nothing.
"""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import gevent
from flask import Response, jsonify, request
from locust.runners import Runner
from locust.web import WebUI

__all__ = ["hold_early_starts"]

LIMIT_S = 30.0
"""So long a START waits; then it is refused."""

REFUSAL = "The test before is still ending: its users finish what they have begun. Press START again when it has ended."


def hold_early_starts(web_ui: WebUI, runner: Runner) -> Callable[[], bool]:
    """Have START wait from when users are told to stop until the report of their test is written.

    Returns a function that tells whether the shape at hand is to end, as it must find out by itself between phases.
    """
    stop, stops = runner.stop, 0
    told_to_end: gevent.Greenlet | None = None

    @wraps(stop)
    def counted_stop(*args: Any, **kwargs: Any) -> None:
        nonlocal stops, told_to_end
        if runner.shape_greenlet is not gevent.getcurrent():  # which ends its phases so
            told_to_end = runner.shape_greenlet
        stops += 1
        try:
            stop(*args, **kwargs)
        finally:
            stops -= 1

    def is_to_end() -> bool:
        return told_to_end is not None and not told_to_end.ready()

    def hold() -> Response | None:
        deadline = time.monotonic() + LIMIT_S
        while request.endpoint == "locust.swarm" and (stops or is_to_end()):
            if time.monotonic() > deadline:
                return jsonify({"success": False, "message": REFUSAL, "host": runner.environment.host})
            gevent.sleep(0.05)
        return None

    runner.stop = counted_stop  # type: ignore[method-assign]
    assert web_ui.app is not None
    web_ui.app.before_request(hold)
    return is_to_end
