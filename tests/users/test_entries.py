"""What is written into Redis: the same from the same seed, and nobody else's."""

import pytest

from asyncload_lib.users.entries import Entries


def test_seed_and_place_settle_the_values_and_the_prefix_the_keys() -> None:
    def of(seed: int, ordinal: int, prefix: str = "a:") -> list[tuple[str, bytes]]:
        entries = Entries(prefix, 64, seed, ordinal)
        return [entries.next() for _ in range(20)]

    assert of(1, 7) == of(1, 7)
    assert [value for _, value in of(1, 7, "b:")] == [value for _, value in of(1, 7)]
    assert not {key for key, _ in of(1, 7, "b:")} & {key for key, _ in of(1, 7)}
    everything = [entry for seed in (1, 2) for ordinal in (0, 1, 1_000_000) for entry in of(seed, ordinal)]
    assert len({value for _, value in everything}) == 120
    assert len({key for key, _ in of(1, 7)}) == 20


@pytest.mark.parametrize("value_bytes", [1, 2, 255, 256])
def test_a_value_has_its_size(value_bytes: int) -> None:
    _, value = Entries("a:", value_bytes, 1, 0).next()
    assert len(value) == value_bytes
