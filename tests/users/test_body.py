"""Bodies as they are sent: JSON in few bytes, forms as requests encodes them."""

from typing import Any

import pytest
import requests

from asyncload_lib.users.body import encoded

JSON, FORM = "application/json", "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("data", "json", "meant"),
    [
        (None, None, (None, None)),
        (None, {"a": ["ü", 1, 1.5, None, True]}, ('{"a":["ü",1,1.5,null,true]}'.encode(), JSON)),
        (None, 0, (b"0", JSON)),
        (b"\x00\xff", {"a": 1}, (b"\x00\xff", None)),
        ("ü", None, ("ü".encode(), None)),
        ({}, None, (b"", FORM)),
        ({"a": "1 2", "b": None, "c": "ü&="}, None, (b"a=1+2&c=%C3%BC%26%3D", FORM)),
    ],
)
def test_a_body_is_bytes_and_says_what_it_is(data: Any, json: Any, meant: tuple[bytes | None, str | None]) -> None:
    assert encoded(data, json) == meant


@pytest.mark.parametrize(
    "form",
    [
        {"ids": [1, 2], "x": ("a", None, "b"), "none": []},
        [("ids", 1), ("ids", 2), ("ids", None)],
        {"text": "a b+c~*._-/ü", "raw": b"\xff ", "yes": True, "half": 0.5},
    ],
)
def test_a_form_is_what_requests_makes_of_it(form: Any) -> None:
    theirs = requests.Request("POST", "http://host.test/", data=form).prepare().body
    body, _ = encoded(form, None)
    assert body is not None
    assert body.decode() == theirs


@pytest.mark.parametrize(
    ("data", "json"), [(None, object()), (None, float("nan")), (None, {(1, 2): 3}), ([1, 2], None), (7, None)]
)
def test_what_is_no_body_is_refused(data: Any, json: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        encoded(data, json)
