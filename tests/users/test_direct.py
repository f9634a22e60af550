"""Which requests are carried directly, and the bytes that they become."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from asyncload_lib.users.direct import DirectClient, DirectRequest
from asyncload_lib.users.exchange import Order


@pytest.fixture
def client() -> Iterator[DirectClient]:
    loop = asyncio.new_event_loop()
    yield DirectClient(loop, 60.0, 60.0)
    loop.close()


def order(url: str = "http://host.test/x", method: str = "GET", **changes: Any) -> Order:
    values = {"headers": None, "body": None, "content_type": None, "timeout_s": None, "auth": None, "follow": True}
    return Order(method, url, **{**values, **changes})


def data(request: DirectRequest | None) -> bytes:
    assert request is not None
    return request._data


def test_a_request_is_its_head_and_its_body(client: DirectClient) -> None:
    assert data(client.prepare(order(), None)).split(b"\r\n") == [
        *(b"GET /x HTTP/1.1", b"host: host.test", b"accept: */*", b"user-agent: asyncload"),
        *(b"accept-encoding: gzip", b"", b""),
    ]
    with_body = order(method="POST", body=b"{}", content_type="application/json")
    head, _, body = data(client.prepare(with_body, "k=v")).partition(b"\r\n\r\n")
    assert body == b"{}"
    assert head.split(b"\r\n")[-3:] == [b"cookie: k=v", b"content-type: application/json", b"content-length: 2"]
    assert b"content-length: 0\r\n" in data(client.prepare(order(method="POST"), None))
    assert data(client.prepare(order(method="PUT", body=b"\x00\xff"), None)).endswith(
        b"content-length: 2\r\n\r\n\x00\xff"
    )


def test_the_callers_headers_stand_for_the_defaults(client: DirectClient) -> None:
    headers = {"User-Agent": "me", "Content-Type": "application/vnd.x+json", "X-One": "1"}
    lines = data(client.prepare(order(method="POST", headers=headers, body=b"[]"), None)).split(b"\r\n")
    assert [line for line in lines if line.lower().startswith((b"user-agent", b"content-type", b"x-one"))] == [
        *(b"User-Agent: me", b"Content-Type: application/vnd.x+json", b"X-One: 1")
    ]


@pytest.mark.parametrize("accepted", ["gzip, deflate", "GZIP;q=1.0, identity; q=0.5", ""])
def test_what_is_decoded_here_may_be_asked_for(accepted: str, client: DirectClient) -> None:
    request = client.prepare(order(headers={"Accept-Encoding": accepted}), None)
    assert f"\r\nAccept-Encoding: {accepted}\r\n".encode() in data(request)


def test_urls_are_spelled_as_they_must_be_sent(client: DirectClient) -> None:
    assert data(client.prepare(order("http://host.test:8080/a b?q=ü#part"), None)).startswith(
        b"GET /a%20b?q=%C3%BC HTTP/1.1\r\nhost: host.test:8080\r\n"
    )
    assert data(client.prepare(order("http://[::1]:81"), None)).startswith(b"GET / HTTP/1.1\r\nhost: [::1]:81\r\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "https://host.test/"},
        {"url": "http://me:secret@host.test/"},
        {"auth": ("me", "secret")},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"headers": {"Host": "other"}},
        {"headers": {"X-Bad": "a\r\nX-Injected: 1"}},
        {"headers": {"X Bad": "1"}},
        {"headers": {"X-Text": "ü"}},
        {"headers": {"Accept-Encoding": "gzip, deflate, br, zstd"}},
        {"headers": {"accept-encoding": "gzip;q=0.5, *"}},
    ],
    ids=str,
)
def test_what_is_rare_goes_by_the_library(changes: dict[str, Any], client: DirectClient) -> None:
    assert client.prepare(order(**changes), None) is None


def test_what_is_no_url_is_refused(client: DirectClient) -> None:
    with pytest.raises(ValueError, match="invalid"):
        client.prepare(order("http://[bad/"), None)
