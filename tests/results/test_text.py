"""What differs each time is folded; what tells one failure from another stays."""

import tracemalloc
from typing import Any

import pytest

from asyncload_lib.results.text import MAX_LENGTH, clean, error_text


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("HTTP 503", "HTTP 503"),
        ("HTTP 404: no user 48213", "HTTP 404: no user #"),
        (ConnectionRefusedError(111, "refused"), "ConnectionRefusedError: [Errno 111] refused"),
        (ValueError("bad object at 0x7f3a90c2"), "ValueError: bad object at #"),
        ("172.16.168.23:6379 refused", "172.16.168.23:# refused"),
        ("id 123e4567-e89b-12d3-a456-426614174000 is gone", "id # is gone"),
        ("key a94a8fe5ccb19ba6 is gone", "key # is gone"),
        ("took 31.25 s", "took # s"),
        ("redis://:p4ss@127.0.0.1:6379/0 is gone", "redis://:***@127.0.0.1:#/# is gone"),
        ("HTTP 503 from /api?api_key=abc12345&x=y", "HTTP 503 from /api?api_key=***&x=y"),
        ("x" * 189 + " redis://:" + "p" * 40 + "@h", "x" * 189 + " redis://:*"),
        ("took 0.503 s", "took # s"),
        ("user17 of 12345", "user# of #"),
        (TimeoutError(), "TimeoutError"),
        (UnspeakableError(), "UnspeakableError"),
        ("", "error without a text"),
        (False, "bool: False"),
    ],
)
def test_error_text(error: Any, text: str) -> None:
    assert error_text(error) == text


@pytest.mark.parametrize("error", ["x" * 1_000_000, "\ud800" * 500, "é" * 500])
def test_texts_are_short_and_packable(error: str) -> None:
    assert len(error_text(error)) <= MAX_LENGTH
    error_text(error).encode("utf-8")
    assert len(clean(error)) <= MAX_LENGTH
    clean(error).encode("utf-8")


def test_errors_that_differ_in_their_numbers_alone_are_one_error() -> None:
    assert len({error_text(f"request {i} failed after {i / 7} s") for i in range(1_000, 3_000)}) == 1


def test_long_texts_are_not_kept() -> None:
    tracemalloc.start()
    try:
        for i in range(20):
            error_text(f"{i}" + "x" * 1_000_000)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
