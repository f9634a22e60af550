"""Server-sent events out of bytes that arrive in any portions (WHATWG HTML, section 9.2)."""

import re

__all__ = ["EventTooLargeError", "SseParser"]

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class EventTooLargeError(ValueError):
    """One event grew beyond the cap; to read on would take memory without a limit."""


class SseParser:
    """`feed(bytes)` returns the `data` of every event that became complete; comments and other fields are left out.

    Lines may end in LF, CRLF or CR. `MAX_EVENT_BYTES` bounds what one event, or one line, may hold back.
    """

    MAX_EVENT_BYTES = 1 << 20

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._first = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[str]:
        """Take the next bytes; raises EventTooLargeError, and UnicodeDecodeError for data that is not UTF-8."""
        if chunk.endswith(b"\n\n") and (events := self._whole_events(chunk)) is not None:
            return events
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # the other half of a CRLF: a CR alone ends its line at once
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        head, *rest = _LINE_END.split(chunk)
        self._line += head
        events = []
        for part in rest:
            self._end_line(events)
            self._line += part
        if self._size + len(self._line) > self.MAX_EVENT_BYTES:
            raise EventTooLargeError(f"an event of more than {self.MAX_EVENT_BYTES} bytes")
        return events

    def _whole_events(self, chunk: bytes) -> list[str] | None:
        """Return the events of a chunk that is nothing but whole events of one `data` line each, as most are."""
        if self._line or self._data or self._first or self._after_cr or len(chunk) > self.MAX_EVENT_BYTES:
            return None
        if b"\r" in chunk or not chunk.startswith(b"data: "):
            return None
        if chunk.count(b"\n") != 2 * (chunk.count(b"\n\ndata: ") + 1):
            return None
        return chunk[6:-2].decode("utf-8").split("\n\ndata: ")

    def _end_line(self, events: list[str]) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self._first:
            line, self._first = line.removeprefix(_BOM), False
        if line:
            self._take(line)
        elif self._data:
            events.append(b"\n".join(self._data).decode("utf-8"))
            self._data, self._size = [], 0

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value) + 1
            if self._size > self.MAX_EVENT_BYTES:
                raise EventTooLargeError(f"an event of more than {self.MAX_EVENT_BYTES} bytes")
