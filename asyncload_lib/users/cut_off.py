"""Requests of Locust's own HTTP users that are cut off in flight, of most of which Locust itself says nothing."""

import time
from functools import wraps
from typing import Any

import gevent
import requests
from locust.clients import HttpSession
from locust.contrib.fasthttp import FastHttpSession

from asyncload_lib.users import events
from asyncload_lib.users.measure import CONTROL_FLOW, tally

__all__ = ["hear_of_cut_offs"]

NOT_IN_FLIGHT = (*CONTROL_FLOW, ValueError)
"""What a listener raises, once Locust has told of the request; and what is no URL, for which nothing was sent."""


def hear_of_cut_offs() -> None:
    """Have `request_abandoned` fired for each request during which an HttpUser or FastHttpUser is killed.

    A request that a `gevent.Timeout` of the task ends has failed, whatever that raises; of some, Locust says so itself.
    Call it once. Without it, a target that hangs would look as if nobody asked it any more.
    """
    for session_class in (HttpSession, FastHttpSession):
        _hear_of(session_class)


def _hear_of(session_class: Any) -> None:
    send = session_class.request

    @wraps(send)
    def request(self: Any, method: Any, url: Any, name: Any = None, *args: Any, **kwargs: Any) -> Any:
        start_time, begun_ns = time.time(), time.perf_counter_ns()
        try:
            return send(self, method, url, name, *args, **kwargs)
        except gevent.GreenletExit:
            if self.user is not None:
                age_us = (time.perf_counter_ns() - begun_ns) / 1e3
                tally.started += 1  # nobody has counted its start either
                tally.ended += 1
                events.request_abandoned.fire(
                    environment=self.user.environment,
                    request_type=method,
                    name=name or _name(self, method, url, kwargs.get("params")),
                    age_us=age_us,
                )
            raise
        except (Exception, gevent.Timeout) as error:
            if not isinstance(error, NOT_IN_FLIGHT):
                self.request_event.fire(
                    request_type=method,
                    name=name or _name(self, method, url, kwargs.get("params")),
                    response_time=(time.perf_counter_ns() - begun_ns) / 1e6,
                    response_length=0,
                    exception=error,
                    context={**(self.user.context() if self.user else {}), **kwargs.get("context", {})},
                    start_time=start_time,
                    url=self._build_url(url),
                    response=None,
                )
            raise

    session_class.request = request


def _name(session: Any, method: Any, url: Any, params: Any) -> str:
    """Return the name that Locust gives to a request that was given none."""
    if session.request_name or isinstance(session, FastHttpSession):
        return str(session.request_name or url)
    return str(requests.Request(method, session._build_url(url), params=params).prepare().path_url)
