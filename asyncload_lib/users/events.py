"""The hooks asyncload adds to Locust's own; listeners run on the gevent hub and take `**kwargs`.

Requests themselves are announced by Locust's `events.request`, like those of any other user class.
"""

from locust.event import EventHook

__all__ = ["request_abandoned", "request_metric"]

request_abandoned = EventHook()
"""Fired when an operation was cut off in flight (its user was stopped), so that it neither succeeded nor failed.

Arguments: `environment`, `request_type`, `name`, `age_us` (float, from the intended start to the cut).
"""

request_metric = EventHook()
"""Fired with figures about requests that are no requests: time to first token, inter-token latency, service time.

Arguments: `environment`, `metric` (name), `request` (name of the request), `values_us` (list of float).
"""
