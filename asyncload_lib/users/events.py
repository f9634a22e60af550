"""The hooks asyncload adds to Locust's own; listeners run on the gevent hub and take `**kwargs`.

Requests themselves are announced by Locust's `events.request`, like those of any other user class.
"""

from locust.event import EventHook

__all__ = ["request_abandoned", "request_metrics"]

request_abandoned = EventHook()
"""Fired when an operation was cut off in flight (its user was stopped), so that it neither succeeded nor failed.

Arguments: `environment`, `request_type`, `name`, `age_us` (float, from the intended start to the cut).
"""

request_metrics = EventHook()
"""Fired after a request's own event with further figures about it, such as time to first token or service time.

Arguments: `environment`, `request` (name of the request), `metrics` (name of the metric -> list of float, us).
"""
