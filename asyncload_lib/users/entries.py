"""What a user writes into Redis: values that follow from the seed, under keys that nobody else has."""

import itertools
import random

__all__ = ["Entries"]


class Entries:
    """The keys and values of one user; equal `seed` and `ordinal` give equal values.

    `prefix` begins the keys: no other user, of this run or of another one, may have it.
    """

    __slots__ = ("_numbers", "_prefix", "_random", "_value_bytes")

    def __init__(self, prefix: str, value_bytes: int, seed: int, ordinal: int) -> None:
        self._prefix = prefix
        self._value_bytes = value_bytes
        self._random = random.Random(f"{seed}/{ordinal}")
        self._numbers = itertools.count(1)

    def next(self) -> tuple[str, bytes]:
        """Return the key and the value (hexadecimal digits) of the next operation."""
        value = self._random.randbytes((self._value_bytes + 1) // 2).hex()[: self._value_bytes]
        return f"{self._prefix}{next(self._numbers)}", value.encode()
