"""A counter in a file that one process writes and another reads, without a call between them."""

import mmap
from pathlib import Path

__all__ = ["SharedCount"]


class SharedCount:
    """The writer calls `add()`, the reader `read()`; the file is made if it is not there."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            self.path.write_bytes(bytes(8))
        with self.path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)
        self._count = self.read()

    def add(self) -> None:
        self._count += 1
        self._memory[:8] = self._count.to_bytes(8, "little")

    def read(self) -> int:
        return int.from_bytes(self._memory[:8], "little")
