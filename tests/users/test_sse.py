"""Server-sent events, whatever portions they come in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncload_lib.users.sse import EventTooLargeError, SseParser


def parse(*chunks: bytes) -> list[str]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"data\n\n", [""]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data: a\n\n\n\ndata: b\n\n", ["a", "b"]),
        (b": comment\nevent: x\nid: 1\nretry: 5\nother: y\ndata: a\n\n", ["a"]),
        (b"event: x\n\n", []),
        (b"data: a", []),
        (b"data: a\n", []),
        (b"data: a: b\n\n", ["a: b"]),
        (b"database: a\n\n", []),
        (b"data: a\r\n\r\n", ["a"]),
        (b"data: a\r\r", ["a"]),
        (b"data: a\r\ndata: b\n\r\n", ["a\nb"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", ["a"]),
        ("data: grün 🌊\n\n".encode(), ["grün 🌊"]),
        (b"", []),
    ],
)
def test_streams_mean_what_the_standard_says(stream: bytes, events: list[str]) -> None:
    assert parse(stream) == events
    assert parse(*(stream[index : index + 1] for index in range(len(stream)))) == events


def test_an_event_is_given_out_with_its_last_byte() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"\n") == []
    assert parser.feed(b"\r") == ["a"]  # a CR ends its line: waiting for an LF would date the event too late
    assert parser.feed(b"\ndata: b\n\n") == ["b"]


LINES = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=20)


@given(
    st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(1, 9)),
)
def test_any_cut_gives_the_same_events(events: list[list[str]], end: str, cuts: list[int]) -> None:
    stream = "".join("".join(f"data: {line}{end}" for line in lines) + end for lines in events).encode()
    chunks, rest = [], stream
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    assert parse(*chunks, rest) == ["\n".join(lines) for lines in events]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * (1 << 20) + b"\n\n"],
        [b"data: "] + [b"x" * 65536] * 17,
        [b"data: " + b"x" * 65536 + b"\n"] * 17,
        [b": " + b"x" * 65536] * 17,
        [b"data:\n" * 4096] * 257,
    ],
    ids=["whole", "one line", "many lines", "comment", "empty lines"],
)
def test_an_event_has_a_limit(chunks: list[bytes]) -> None:
    with pytest.raises(EventTooLargeError, match="an event of more than 1048576 bytes"):
        parse(*chunks)


def test_many_events_are_no_large_event() -> None:
    assert len(parse(*[b"data: " + b"x" * 65536 + b"\n\n"] * 40)) == 40


@pytest.mark.parametrize(
    "odd", [b": \xff\n\n", b"id: \xff\n\n", b"data: b\nid: \xff\n\n", b"data:b\n\n", b"\n\n", b"data\n\n"]
)
def test_what_stands_between_events_means_the_same_in_one_piece_and_in_bytes(odd: bytes) -> None:
    chunk = b"data: a\n\n" + odd + b"data: c\n\n"
    whole, cut = SseParser(), SseParser()
    for parser in (whole, cut):
        parser.feed(b"data: first\n\n")
    found = whole.feed(chunk)
    assert found == [event for at in range(len(chunk)) for event in cut.feed(chunk[at : at + 1])]
    assert (found[0], found[-1]) == ("a", "c")


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        parse(b"data: \xff\n\n")
