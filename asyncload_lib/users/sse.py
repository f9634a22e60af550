"""Server-sent events out of bytes that arrive in any portions (WHATWG HTML, section 9.2)."""

__all__ = ["EventTooLargeError", "SseParser"]


class EventTooLargeError(ValueError):
    """One event grew beyond the cap; the stream is not worth the memory."""


class SseParser:
    """`feed(bytes)` returns the `data` of every event that became complete; comments and other fields are passed over.

    Lines may end in LF, CRLF or CR. `MAX_EVENT_BYTES` bounds what one event may hold back.
    """

    MAX_EVENT_BYTES = 1 << 20

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[str]:
        """Take the next bytes; raises EventTooLargeError, and UnicodeDecodeError for data that is not UTF-8."""
        text = self._rest + chunk
        # A CR at the very end may be half of a CRLF: it waits for the next chunk.
        held = b"\r" if text.endswith(b"\r") else b""
        lines = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + held
        events: list[str] = []
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                events.append(b"\n".join(self._data).decode("utf-8"))
                self._data, self._size = [], 0
        if self._size + len(self._rest) > self.MAX_EVENT_BYTES:
            raise EventTooLargeError(f"an event of more than {self.MAX_EVENT_BYTES} bytes")
        return events

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)
