"""The same user code against the same server, on Locust's HttpUser and on AsyncHttpUser: the same outcome."""

import asyncio
import base64
import contextlib
import gc
import socket
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin

import gevent
import pytest
import requests
from locust import HttpUser, task
from locust.exception import CatchResponseError, LocustError, RescheduleTask, StopUser
from pyreqwest.http import Url

from asyncload_lib.eventloop.native import native
from asyncload_lib.users import direct
from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.exchange import Order, _is_same_server
from asyncload_lib.users.http import AsyncHttpUser
from asyncload_lib.users.measure import Measurement
from asyncload_lib.users.response import Response
from tests.users.swarm import Swarm, eventually, fetch


class Case:
    """One request and what its block does, spelled for both clients.

    `lost`: Locust itself records nothing, which asyncload does not follow.
    """

    def __init__(
        self,
        title: str,
        url: str,
        block: Callable[[Any], None] | None = None,
        *,
        method: str = "GET",
        lost: bool = False,
        **arguments: Any,
    ) -> None:
        self.title, self.url, self.block, self.method, self.lost = title, url, block, method, lost
        self.arguments = arguments


def fail(response: Any) -> None:
    response.failure("no good")


def fail_with(response: Any) -> None:
    response.failure(ValueError("no good"))


def succeed(response: Any) -> None:
    response.success()


def fail_then_succeed(response: Any) -> None:
    response.failure("no good")
    response.success()


def succeed_then_fail(response: Any) -> None:
    response.success()
    response.failure("no good")


def nothing(_: Any) -> None: ...


def raise_value_error(_: Any) -> None:
    raise ValueError("block")


def raise_catch_response_error(_: Any) -> None:
    raise CatchResponseError("block")


def succeed_and_raise(response: Any) -> None:
    response.success()
    raise ValueError("block")


def fail_and_raise(response: Any) -> None:
    response.failure("no good")
    raise ValueError("block")


def read_json(response: Any) -> None:
    response.json()


def reschedule(_: Any) -> None:
    raise RescheduleTask


def check_status(response: Any) -> None:
    response.raise_for_status()


with socket.socket() as _probe:
    _probe.bind(("127.0.0.1", 0))
    NOBODY = f"http://127.0.0.1:{_probe.getsockname()[1]}"

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}

CASES = [
    Case("plain", "/echo"),
    Case("length", "/length/12345"),
    Case("empty", "/length/0"),
    Case("compressed", "/gzip"),
    *(Case(f"status {code}", f"/status/{code}") for code in (200, 204, 304, 400, 404, 500, 503)),
    Case("name", "/echo?x=1", name="echo"),
    Case("query", "/echo?b=2&a=1"),
    Case("params", "/echo", params={"a": 1, "b": "x y", "c": None}),
    Case("params of lists", "/echo", params={"ids": [1, 2], "x": ("a", None)}),
    Case("params and query", "/echo?z=0", params=[("a", "1"), ("a", "2")]),
    Case("context", "/echo", context={"user": "u7"}),
    Case("json", "/echo", method="POST", json={"a": [1, None, "ü"]}),
    Case("json of an own type", "/echo", method="PATCH", json={"a": 1}, headers=MERGE_PATCH),
    Case("json of an own type, auth", "/echo", method="PATCH", json={"a": 1}, headers=MERGE_PATCH, auth=("me", "pw")),
    Case("form", "/echo", method="POST", data={"a": "1 2", "b": "ü"}),
    Case("form of lists", "/echo", method="POST", data={"ids": [1, 2], "x": ["a", None]}),
    Case("form of lists, auth", "/echo", method="POST", data={"ids": [1, 2]}, auth=("me", "pw")),
    Case("form of an own type", "/echo", method="POST", data={"a": "1"}, headers={"content-type": "text/x-form"}),
    Case("text", "/echo", method="POST", data='{"a": 1}', headers={"Content-Type": "application/json"}),
    Case("bytes", "/echo", method="PUT", data=b"abc"),
    Case("patch", "/echo", method="PATCH", data=b"abc"),
    Case("delete", "/echo", method="DELETE"),
    Case("head", "/echo", method="HEAD"),
    Case("options", "/echo", method="OPTIONS"),
    Case("header", "/echo", headers={"X-One": "1", "X-None": None}),
    Case("auth", "/echo", auth=("me", "p:ss")),
    Case("refused", f"{NOBODY}/x"),
    Case("closed", "/close"),
    Case("half", "/half"),
    Case("timeout", "/hang", timeout=0.1),
    Case("not http", "/raw/" + b"nonsense\r\n\r\n".hex(), name="raw"),
    Case(
        "odd header",
        "/raw/" + b"HTTP/1.1 200 OK\r\nset-cookie: \xff=\xff\r\ncontent-length: 1\r\n\r\nx".hex(),
        name="raw",
    ),
    *(
        Case(f"redirect {code}", f"/redirect/{code}/2", method="POST", data=b"abc")
        for code in (301, 302, 303, 307, 308)
    ),
    Case("redirect get", "/redirect/302/1"),
    Case("redirect not followed", "/redirect/302/1", allow_redirects=False),
    Case("redirect head", "/redirect/302/1", method="HEAD"),
    *(
        Case(f"redirect {method} {code}", f"/redirect/{code}/1", method=method)
        for method in ("DELETE", "PUT")
        for code in (301, 302, 303)
    ),
    Case("too many redirects", "/redirect/302/40", name="far"),
    Case("catch nothing", "/echo", nothing),
    Case("catch 500", "/status/500", nothing),
    Case("catch refused", f"{NOBODY}/x", nothing),
    Case("failure", "/echo", fail),
    Case("failure of 500", "/status/500", fail),
    Case("failure with exception", "/echo", fail_with),
    Case("success", "/echo", succeed),
    Case("success of 500", "/status/500", succeed),
    Case("success of refused", f"{NOBODY}/x", succeed),
    Case("last word success", "/echo", fail_then_succeed),
    Case("last word failure", "/echo", succeed_then_fail),
    Case("json read", "/echo", read_json),
    Case("raise CatchResponseError", "/echo", raise_catch_response_error, lost=True),
    Case("raise", "/echo", raise_value_error, lost=True),
    Case("raise on 500", "/status/500", raise_value_error, lost=True),
    Case("reschedule", "/echo", reschedule, lost=True),
    Case("json error", "/length/3", read_json, lost=True),
    Case("json error of 500", "/status/500", read_json, lost=True),
    Case("raise_for_status", "/status/404", check_status, lost=True),
    Case("success and raise", "/status/500", succeed_and_raise),
    Case("failure and raise", "/echo", fail_and_raise),
]


class Sync(HttpUser):
    abstract = True

    @task
    def work(self) -> None:
        case = self.case  # type: ignore[attr-defined]
        try:
            if case.block is None:
                self.client.request(case.method, case.url, **self.arguments(case))
            else:
                with self.client.request(
                    case.method, case.url, catch_response=True, **self.arguments(case)
                ) as response:
                    case.block(response)
        finally:
            self.environment.runner.done = True
            self.stopping()

    @staticmethod
    def arguments(case: Case) -> dict[str, Any]:
        """The convenience methods alone know that HEAD is not redirected."""
        return {**({"allow_redirects": False} if case.method == "HEAD" else {}), **case.arguments}

    def stopping(self) -> None:
        self._state = "stopping"


class Async(AsyncHttpUser):
    abstract = True

    @task
    async def work(self) -> None:
        case = self.case  # type: ignore[attr-defined]
        send = getattr(self.client, case.method.lower())
        try:
            if case.block is None:
                await send(case.url, **case.arguments)
            else:
                async with send(case.url, catch_response=True, **case.arguments) as response:
                    case.block(response)
        finally:
            self._stop_requested = True


def outcome(base: type, case: Case, host: str) -> tuple[list[dict[str, Any]], list[str]]:
    user_class = type(base)("Person", (base,), {"case": case, "host": host})
    with Swarm(user_class) if issubclass(base, AsyncUser) else uncounted(user_class) as swarm:
        swarm.run()
    events = [
        {
            **{key: event[key] for key in ("request_type", "name", "response_length", "context", "url")},
            "failed": event["exception"] is not None,
            "status": event["response"].status_code,
            "final": event["response"].url,
        }
        for event in swarm.requests
    ]
    return events, [type(error).__name__ for error in swarm.errors]


@contextlib.contextmanager
def uncounted(user_class: type) -> Iterator[Swarm]:
    swarm = Swarm(user_class)
    swarm.events.request.add_listener(lambda **event: swarm.requests.append(event))
    swarm.events.user_error.add_listener(lambda exception, **_: swarm.errors.append(exception))
    yield swarm
    swarm.runner.quit()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_outcomes_are_those_of_locusts_http_user(case: Case, target: str) -> None:
    theirs, their_errors = outcome(Sync, case, target)
    ours, our_errors = outcome(Async, case, target)
    assert our_errors == [
        name.replace("HTTPError", "HttpStatusError") for name in their_errors if name not in SWALLOWED
    ]
    if case.lost:
        assert theirs == []
        assert [event["failed"] for event in ours] == [case.title != "reschedule"]
        return
    for event, ours_event in zip(theirs, ours, strict=True):
        # requests shows the name where the URL was while it reports, and has no URL where nobody answered.
        if event["final"] in (event["name"], None):
            event["final"] = ours_event["final"]
        if case.title == "too many redirects":
            event["url"] = ours_event["url"]  # the last one there, here the one that was asked for
    assert ours == theirs


SWALLOWED = {"CatchResponseError"}
"""Raised in a block it says no more than that the request failed; Locust lets it out as an error of the task."""


# -- what only asyncload says, or says better --------------------------------------------------------------------------


class Once(AsyncHttpUser):
    """Does `act` once."""

    abstract = True

    @task
    async def work(self) -> None:
        await self.act()
        raise StopUser

    async def act(self) -> None:
        raise NotImplementedError


BOTH_WAYS = [None, ("me", "pw")]
"""Credentials: with them a request goes by the library, without them straight."""


@pytest.mark.parametrize("auth", BOTH_WAYS)
def test_a_body_is_the_same_by_either_way_and_of_the_callers_type(auth: tuple[str, str] | None, target: str) -> None:
    seen: list[Any] = []

    class Person(Once):
        host = target

        async def act(self) -> None:
            for body in ({"json": ["ü"]}, {"json": ["ü"], "headers": MERGE_PATCH}, {"data": {"a": "1 2"}}):
                answer = (await self.client.patch("/echo", auth=auth, **body)).json()
                seen.append([value for name, value in answer["headers"] if name.lower() == "content-type"])
                seen.append(answer["body"])

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.errors == []
    assert seen == [
        *(["application/json"], '["ü"]'),
        *(["application/merge-patch+json"], '["ü"]'),
        *(["application/x-www-form-urlencoded"], "a=1+2"),
    ]


def test_a_login_by_redirect_keeps_its_cookie_and_each_user_its_own(target: str) -> None:
    seen: list[list[str]] = []

    class Person(Once):
        host = target

        async def act(self) -> None:
            before = await self.client.get("/whoami")
            login = await self.client.post("/login", data={"user": "me"})
            after = await self.client.get("/whoami")
            seen.append([before.text, login.text, login.url, after.text])

    with Swarm(Person) as swarm:
        swarm.run(3)
    assert seen == [["nobody", "session=abc", f"{target}/whoami", "session=abc"]] * 3
    assert {event["name"] for event in swarm.requests} == {"/whoami", "/login"}


def test_a_cookie_beyond_ascii_goes_back_as_it_came(target: str) -> None:
    seen: list[str] = []
    answer = "HTTP/1.1 200 OK\r\nset-cookie: lang=日本; Path=/\r\ncontent-length: 0\r\n\r\n"

    class Person(Once):
        host = target

        async def act(self) -> None:
            await self.client.get(f"/raw/{answer.encode().hex()}", name="raw")
            seen.append((await self.client.get("/whoami")).text)

    with Swarm(Person) as swarm:
        swarm.run(1)
    assert swarm.errors == []
    assert seen == ["lang=日本"]


@pytest.mark.parametrize("auth", BOTH_WAYS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_is_a_failure_and_nothing_goes_there(
    status: int, auth: tuple[str, str] | None, target: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        place = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        answer = f"HTTP/1.1 {status} Away\r\nlocation: {place}/echo\r\ncontent-length: 0\r\n\r\n"

        class Person(Once):
            host = target

            async def act(self) -> None:
                await self.client.post(f"/raw/{answer.encode().hex()}", name="away", data="secret", auth=auth)

        with Swarm(Person) as swarm:
            swarm.run()
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    (event,) = swarm.requests
    assert repr(event["exception"]) == f"ForeignRedirectError('redirected to {place}, where nothing may be sent')"


def test_a_redirect_on_the_same_server_keeps_the_credentials(target: str) -> None:
    seen: list[Any] = []

    class Person(Once):
        host = target

        async def act(self) -> None:
            headers = {"Authorization": "Bearer x", "X-One": "1"}
            home = await self.client.get("/redirect/302/1", headers=headers)
            seen.extend(home.json()["headers"])

    with Swarm(Person) as swarm:
        swarm.run()
    assert [[name.lower(), value] for name, value in seen] == [["authorization", "Bearer x"], ["x-one", "1"]]


def test_a_redirect_that_spells_out_the_same_server_keeps_the_user_of_the_host(target: str) -> None:
    """A framework that adds a missing slash answers so, and knows nothing of the host's user."""
    seen: list[Any] = []
    answer = f"HTTP/1.1 307 There\r\nlocation: {target}/echo\r\ncontent-length: 0\r\n\r\n"

    class Person(Once):
        host = target.replace("//", "//me:p%40w@")

        async def act(self) -> None:
            home = await self.client.post(f"/raw/{answer.encode().hex()}", data="mine", name="there")
            seen.extend([name.lower(), value] for name, value in home.json()["headers"])

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.failures == []
    assert ["authorization", f"Basic {base64.b64encode(b'me:p@w').decode()}"] in seen


@pytest.mark.parametrize(
    "url",
    ["http://chat.test/", "http://CHAT.test/", "http://chat.test:80/", "https://chat.test/", "http://chat.test:81/"],
)
@pytest.mark.parametrize(
    "location",
    [
        "/login",
        "//chat.test/login",
        "http://Chat.Test:80/",
        "http://chat.test:81/",
        "http://chat.test:443/",
        "https://chat.test/",
        "https://chat.test:443/",
        "https://chat.test:81/",
        "http://other.test/",
        "https://chat.test.evil/",
    ],
)
def test_credentials_go_where_those_of_requests_go(url: str, location: str) -> None:
    given = {"Authorization": "Bearer x"}
    order = Order("GET", url, given, None, None, timeout_s=None, auth=("me", "pw"), follow=True)
    redirected = order.redirected(301, location)
    is_stripped = requests.Session().should_strip_auth(url, urljoin(url, location))
    assert (redirected.headers, redirected.auth) == (({}, None) if is_stripped else (given, order.auth))


def test_who_is_named_by_a_redirect_replaces_the_user_of_the_host() -> None:
    order = Order("GET", "http://me:pw@chat.test/", None, None, None, timeout_s=None, auth=None, follow=True)
    assert order.redirected(301, "http://you@chat.test:80/x").url == "http://you@chat.test/x"
    assert order.redirected(301, "https://chat.test/x").url == "https://me:pw@chat.test/x"
    assert order.redirected(301, "http://chat.test:81/x").url == "http://chat.test:81/x"


CODED = {"br": bytes.fromhex("0b0380") + b'{"a":1}' + b"\x03", "zstd": bytes.fromhex("28b52ffd2007390000") + b'{"a":1}'}


@pytest.mark.parametrize("coding", CODED)
def test_what_a_browser_accepts_is_decoded(coding: str, target: str) -> None:
    seen: list[Any] = []
    content = CODED[coding]
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(content)}\r\n\r\n"

    class Person(Once):
        host = target

        async def act(self) -> None:
            accepted = {"Accept-Encoding": "gzip, deflate, br, zstd"}
            seen.append((await self.client.get(f"/raw/{(head.encode() + content).hex()}", headers=accepted)).content)

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.errors == []
    assert seen == [b'{"a":1}']


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer s3cret\n"}, {"a b": "s3cret"}])
def test_a_header_that_is_none_is_told_without_its_value(target: str, headers: dict[str, str]) -> None:
    raised: list[ValueError] = []

    class Person(Once):
        host = target

        async def act(self) -> None:
            try:
                await self.client.get("/json", headers=headers)
            except ValueError as error:
                raised.append(error)

    with Swarm(Person) as swarm:
        swarm.run()
    (error,) = raised
    assert str(error).startswith(f"the header {next(iter(headers))!r} is not allowed")
    assert "s3cret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("location", "is_followed"),
    [
        ("https://chat.test/login", True),
        ("http://chat.test:80/login", True),
        ("/login", True),
        ("//chat.test/login", True),
        ("https://chat.test:8443/login", False),
        ("http://chat.test.evil/login", False),
        ("//other.test/login", False),
        ("http://chat.test@other.test/login", False),
        ("http://other.test\\@chat.test/login", False),
        ("http://CHAT.test:80/login", True),
    ],
)
def test_what_is_the_same_server(location: str, is_followed: bool) -> None:
    order = Order("GET", "http://chat.test/", None, None, None, timeout_s=None, auth=None, follow=True)
    assert _is_same_server(Url(order.url), Url(order.redirected(302, location).url)) == is_followed


def test_a_proxy_of_the_environment_is_not_used(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    class Person(Once):
        host = target
        connection_timeout = 7.0  # a client of its own, made now

        async def act(self) -> None:
            await self.client.get("/status/200")
            await self.client.get("/status/200", auth=("me", "pw"))

    with Swarm(Person) as swarm:
        swarm.run()
    assert len(swarm.requests) == 2
    assert swarm.failures == []


def test_names_hold_the_path_of_the_host(target: str) -> None:
    class Person(Once):
        host = f"{target}/status/"

        async def act(self) -> None:
            await self.client.get("/200")
            await self.client.get(f"{target}/echo?x=1")

    with Swarm(Person) as swarm:
        swarm.run()
    assert [event["name"] for event in swarm.requests] == ["/status/200", "/echo?x=1"]
    assert swarm.failures == []


@pytest.mark.parametrize("verdict", ["success", "failure"])
def test_a_verdict_outside_its_block_is_refused(verdict: str, target: str) -> None:
    class Person(Once):
        host = target

        async def act(self) -> None:
            arguments = ["late"] if verdict == "failure" else []
            response = await self.client.get("/echo")
            with pytest.raises(LocustError, match="catch_response=True"):
                getattr(response, verdict)(*arguments)
            async with self.client.get("/echo", catch_response=True) as response:
                pass
            with pytest.raises(LocustError, match="here the request is already recorded"):
                getattr(response, verdict)(*arguments)
            with pytest.raises(LocustError, match="needs catch_response=True"):
                async with self.client.get("/echo"):
                    pass
            with pytest.raises(TypeError, match="needs `async with`"):
                await self.client.get("/echo", stream=True)

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.errors == []
    assert len(swarm.requests) == 2
    assert swarm.failures == []


@pytest.mark.parametrize("arguments", [{"url": "http://[bad/"}, {"url": "/x", "json": object()}])
def test_a_call_that_makes_no_request_is_raised_and_not_counted(arguments: dict[str, Any], target: str) -> None:
    class Person(Once):
        host = target

        async def act(self) -> None:
            with pytest.raises((ValueError, TypeError)):
                await self.client.post(**arguments)

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.errors == []
    assert swarm.started == 0


@pytest.mark.parametrize("stream", [False, True])
def test_nor_is_one_that_the_library_cannot_build(stream: bool, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Order, "apply", lambda _, builder: builder.form([("ids", [1, 2])]))  # it tells when it builds

    class Person(Once):
        host = target

        async def act(self) -> None:
            with pytest.raises(ValueError, match="Failed to build request"):
                async with self.client.get("/echo", auth=("me", "pw"), stream=stream, catch_response=True):
                    pass

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.errors == []
    assert swarm.started == 0


def test_without_a_host_the_test_stops_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    class Person(Once):
        pass

    with Swarm(Person) as swarm:
        swarm.start()
        eventually(lambda: swarm.runner.state == "stopped")
    assert "no host: give one with --host" in caplog.text


def test_a_request_is_sent_once_whatever_happens_to_it(target: str) -> None:
    class Person(Once):
        host = target

        async def act(self) -> None:
            await self.client.get("/echo")  # leaves a connection to use again
            for path in ("/close", "/half", "/status/503"):
                await self.client.get(path, headers={"x-request-id": f"once-{path}"})
            await self.client.get("/hang", headers={"x-request-id": "once-/hang"}, timeout=0.1)

    with Swarm(Person) as swarm:
        swarm.run()
    assert [type(event["exception"]).__name__ for event in swarm.requests] == [
        *("NoneType", "ConnectionBrokenError", "ConnectionBrokenError", "HttpStatusError", "AnswerTimeoutError")
    ]
    ids = {name: state for name, state in fetch(f"{target}/ledger").items() if name.startswith("once-")}
    assert set(ids.values()) <= {"received", "answered"}
    assert len(ids) == 4


REASONS = {
    f"{NOBODY}/x": "ConnectionFailedError: Connection refused (os error 111)",
    "http://no-such-host.invalid/": "ConnectionFailedError: failed to lookup address information",
    "/close": "ConnectionBrokenError: connection closed before message completed",
    "/half": "ConnectionBrokenError: the answer broke off: end of file before message length reached",
    "/hang": "AnswerTimeoutError: no answer in time",
    "/half_hang": "BodyTimeoutError: the answer did not end in time",
    "/raw/" + b"nonsense\r\n\r\n".hex(): "BadAnswerError: invalid HTTP version parsed",
    "/redirect/302/40": "TooManyRedirectsError: more than 30 redirects",
}


@pytest.mark.parametrize("url", REASONS, ids=[reason.partition(":")[0] for reason in REASONS.values()])
def test_the_reason_is_named_without_what_differs_each_time(url: str, target: str) -> None:
    class Person(Once):
        host = target

        async def act(self) -> None:
            await self.client.get(url, timeout=0.3 if "hang" in url else 20)

    with Swarm(Person) as swarm:
        swarm.run()
    (event,) = swarm.requests
    assert f"{type(event['exception']).__name__}: {event['exception']}".startswith(REASONS[url])


@pytest.mark.parametrize("url", [f"{NOBODY}/x", "/redirect/302/40"], ids=["refused", "redirects"])
def test_a_block_that_raises_why_there_was_no_answer_says_no_more_than_that(url: str, target: str) -> None:
    class Person(Once):
        host = target

        async def act(self) -> None:
            async with self.client.get(url, catch_response=True) as response:
                assert response.status_code == 0
                response.raise_for_status()

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.errors == []
    assert len(swarm.failures) == 1


@pytest.mark.chance
def test_the_timeout_covers_redirects(target: str) -> None:
    class Person(Once):
        host = target
        network_timeout = 0.1

        async def act(self) -> None:
            await self.client.get("/slow/300", name="class")
            await self.client.get("/slow_redirect/300", name="call", timeout=0.5)  # 300 ms, and 300 ms more

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.failures == ["no answer in time"] * 2
    assert 95 < swarm.requests[0]["response_time"] < 290
    assert 495 < swarm.requests[1]["response_time"] < 595


def test_latency_ends_with_the_answer_and_not_with_the_block(target: str) -> None:
    class Person(Once):
        host = target

        async def act(self) -> None:
            for path, stream in (("/echo", False), ("/close", False), ("/status/500", True)):
                async with self.client.get(path, catch_response=True, stream=stream) as response:
                    response.failure("decided late")
                    await asyncio.sleep(0.8)
            async with self.client.get("/stream/paced", stream=True, name="read") as response:
                async for _ in response.iter_bytes():
                    pass
                await asyncio.sleep(0.8)
            async with self.client.get("/stream/paced", stream=True, name="left") as response:
                async for _ in response.iter_bytes():
                    break
                await asyncio.sleep(0.8)

    with Swarm(Person) as swarm:
        swarm.run()
    took_ms = [event["response_time"] for event in swarm.requests]
    assert all(0 < took < 800 for took in (*took_ms[:3], took_ms[4])), took_ms
    assert 240 < took_ms[3] < 800


def test_what_was_waited_for_in_vain_belongs_to_the_latency_of_a_stream(target: str) -> None:
    class Person(Once):
        host = target

        async def act(self) -> None:
            async with self.client.get("/half_hang", stream=True, timeout=0.5) as response:
                async for _ in response.iter_bytes():
                    pass
            async with self.client.get("/half_hang", stream=True, catch_response=True) as response:
                try:
                    async with asyncio.timeout(0.5):
                        async for _ in response.iter_bytes():
                            pass
                except TimeoutError:
                    response.failure("given up")

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.failures == ["the answer did not end in time", "given up"]
    assert all(490 < event["response_time"] < 2000 for event in swarm.requests)


CUTS = {
    "waiting for the answer": ("/hang", False),
    "reading the body": ("/slow/1", False),
    "reading a stream": ("/stream/paced", True),
    "refused": (f"{NOBODY}/x", False),
}


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("own", [False, True], ids=["stopped", "own timeout"])
def test_a_request_that_is_cut_off_has_one_outcome(where: str, own: bool, target: str) -> None:
    url, stream = CUTS[where]

    class Person(AsyncHttpUser):
        host = target

        @task
        async def work(self) -> None:
            try:
                async with asyncio.timeout(0.005 if own else 100):
                    if stream:
                        async with self.client.get(url, stream=True) as response:
                            async for _ in response.iter_bytes():
                                pass
                    else:
                        await self.client.get(url)
            except TimeoutError:
                pass

    with Swarm(Person, stop_timeout=0) as swarm:
        for _ in range(5):
            swarm.start(10)
            gevent.sleep(0.03)
            swarm.stop()
            assert swarm.started == len(swarm.requests) + len(swarm.abandoned)  # also at the end of the block
    cut = [event for event in swarm.requests if type(event["exception"]).__name__ == "CutOffError"]
    if where in ("waiting for the answer", "reading a stream"):
        assert len(cut) > 50 if own else len(swarm.abandoned) >= 50
    assert own or not cut


def test_a_cancellation_that_the_client_lets_go_of_still_ends_the_user(target: str) -> None:
    """pyreqwest returns the answer of a request that is cancelled at the moment it is there."""

    class Person(AsyncHttpUser):
        host = target
        STOP_LIMIT_S = 3

        @task
        async def work(self) -> None:
            while True:
                await self.client.get("/echo")

    with Swarm(Person, stop_timeout=0) as swarm:
        for _ in range(8):
            swarm.start(20)
            gevent.sleep(0.05)
            assert swarm.stop() < 1.5


def test_nor_does_a_stream_that_never_ends_keep_its_reader(target: str) -> None:
    class Person(AsyncHttpUser):
        host = target
        STOP_LIMIT_S = 3

        @task
        async def work(self) -> None:
            async with self.client.get("/flood", stream=True) as response:
                async for _ in response.iter_bytes():
                    pass

    with Swarm(Person, stop_timeout=0) as swarm:
        for _ in range(8):
            swarm.start(20)
            gevent.sleep(0.1)
            assert swarm.stop() < 1.5
    assert swarm.requests == []


def test_every_request_of_a_stopped_swarm_is_in_the_servers_ledger_as_it_is_in_ours(target: str) -> None:
    ours: dict[str, str] = {}
    prefix = f"stress-{native('time', 'monotonic')()}"

    class Person(AsyncHttpUser):
        host = target
        number = 0

        @task
        async def work(self) -> None:
            type(self).number += 1
            request_id = f"{prefix}-{self.number}"
            path = ("/echo", "/slow/5", "/status/500", "/close", "/half", "/stream/good")[self.number % 6]
            context = {"id": request_id}
            streamed = "stream" in path
            request = self.client.get(path, headers={"x-request-id": request_id}, context=context, stream=streamed)
            if streamed:
                async with request as response:
                    async for _ in response.iter_bytes():
                        pass
            else:
                await request

    def note(context: dict[str, str], exception: object, **_: Any) -> None:
        assert context["id"] not in ours
        ours[context["id"]] = "ok" if exception is None else "failed"

    with Swarm(Person, stop_timeout=0) as swarm:
        swarm.events.request.add_listener(note)
        for round_ in range(12):
            swarm.start(20)
            gevent.sleep(0.02 + 0.01 * (round_ % 4))
            swarm.stop()
            assert swarm.started == len(swarm.requests) + len(swarm.abandoned)
    assert len(ours) == len(swarm.requests)
    assert swarm.abandoned
    theirs = {name: state for name, state in fetch(f"{target}/ledger").items() if name.startswith(prefix)}
    assert "twice" not in theirs.values()
    assert {name for name, state in ours.items() if state == "ok"} <= {
        name for name, state in theirs.items() if state == "answered"
    }
    assert ours.keys() <= theirs.keys()
    assert len(theirs) <= swarm.started


def test_every_user_has_connections_of_its_own_and_takes_them_along(target: str) -> None:
    ports: dict[int, set[str]] = {}

    class Person(Once):
        host = target

        async def act(self) -> None:
            mine = ports.setdefault(id(self), set())
            for _ in range(5):
                mine.add((await self.client.get("/port")).text)
                await asyncio.sleep(0.01)

    with Swarm(Person) as swarm:
        before = int(fetch(f"{target}/open"))
        swarm.run(4)
        assert [len(mine) for mine in ports.values()] == [1] * 4
        assert len(set.union(*ports.values())) == 4
        eventually(lambda: int(fetch(f"{target}/open")) == before)


def test_a_request_in_flight_when_its_user_ends_leaves_no_connection(target: str) -> None:
    left: list[asyncio.Task[Any]] = []

    class Person(Once):
        host = target

        async def act(self) -> None:
            async def ask() -> None:
                await self.client.get("/slow/100")

            left.append(asyncio.create_task(ask()))
            await asyncio.sleep(0.02)

    with Swarm(Person) as swarm:
        before = int(fetch(f"{target}/open"))
        swarm.run()
        assert not left[0].done()
        eventually(lambda: int(fetch(f"{target}/open")) == before and left[0].done())


@pytest.mark.parametrize("path", ["/resting/1000", "/resting/5000/1"])
def test_a_connection_that_the_server_is_about_to_close_carries_no_request(path: str, target: str) -> None:
    """The server closes after a second, which shows once, or it says so."""
    ports: list[str] = []

    class Person(Once):
        host = target

        async def act(self) -> None:
            for rest_s in (1.3, 0.1, 0.95, 0.0):
                ports.append((await self.client.get(path)).text)
                await asyncio.sleep(rest_s)

    direct._keep_alive.cache_clear()
    with Swarm(Person) as swarm:
        swarm.run(timeout_s=20)
    assert swarm.failures == []
    first, second, third, fourth = ports
    assert first != second  # closed by the server, or rested for too long
    assert second == third
    assert third != fourth


def test_a_worker_that_ends_teaches_no_limit(target: str) -> None:
    """One connection is closed after a second, and the server keeps the others."""
    ports: list[str] = []

    class Person(Once):
        host = target

        async def act(self) -> None:
            await self.client.get("/resting/1000")
            await asyncio.sleep(1.3)
            for rest_s in (1.2, 0.95, 0.0):
                ports.append((await self.client.get("/port")).text)
                await asyncio.sleep(rest_s)

    direct._keep_alive.cache_clear()
    with Swarm(Person) as swarm:
        swarm.run(timeout_s=20)
    assert swarm.failures == []
    assert len(set(ports)) == 1


def test_a_request_that_nobody_awaits_is_told_of(target: str) -> None:
    class Person(Once):
        host = target

        async def act(self) -> None:
            self.client.post("/echo", json={"message": "hi"}, name="chat")
            await self.client.get("/echo")

    with Swarm(Person) as swarm:
        swarm.run()
    assert [event["name"] for event in swarm.requests] == ["/echo"]
    assert [str(error) for error in swarm.errors] == ["POST chat was made and never awaited: nothing was sent"]


def test_a_request_is_sent_once(target: str) -> None:
    class Person(Once):
        host = target

        async def act(self) -> None:
            exchange = self.client.get("/echo")
            await exchange
            with pytest.raises(RuntimeError, match="a request is sent only once"):
                await exchange

    with Swarm(Person) as swarm:
        swarm.run()
    assert len(swarm.requests) == 1
    assert swarm.errors == []


def test_a_request_leaves_nothing_for_the_collector(target: str) -> None:
    held: list[int] = []

    class Person(Once):
        host = target

        async def act(self) -> None:
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await self.client.get("/length/1000")
                    async with self.client.get("/length/1000", catch_response=True) as response:
                        response.failure("no")
                await asyncio.sleep(0.1)  # the hub has taken all
                held.append(sum(isinstance(found, Response | Measurement) for found in gc.get_objects()))
            finally:
                gc.enable()

    with Swarm(Person) as swarm:
        swarm.events.request._handlers.clear()  # the swarm's own keeps every answer
        swarm.events.request.add_listener(lambda **_: swarm.requests.append({}))
        swarm.run()
    assert len(swarm.requests) == 40
    assert held[0] <= 2  # the last one may be in somebody's hands


def test_methods_are_sent_in_capitals_and_an_own_cookie_stands_for_the_jar(target: str) -> None:
    seen: list[Any] = []

    class Person(Once):
        host = target

        async def act(self) -> None:
            await self.client.get("/login")
            seen.append((await self.client.get("/whoami")).text)
            found = (await self.client.request("get", "/echo", headers={"Cookie": "mine=1"})).json()
            seen.append((found["method"], found["headers"]))

    with Swarm(Person) as swarm:
        swarm.run()
    assert seen == ["session=abc", ("GET", [["Cookie", "mine=1"]])]


def test_a_redirect_has_no_time_of_its_own_without_a_timeout_either(target: str) -> None:
    class Person(Once):
        host = target
        network_timeout = 0.3

        async def act(self) -> None:
            await self.client.get("/slow_redirect/200")

    with Swarm(Person) as swarm:
        swarm.run()
    assert [type(event["exception"]).__name__ for event in swarm.requests] == ["AnswerTimeoutError"]
