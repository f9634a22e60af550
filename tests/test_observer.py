"""A worker of the target that watched under another limit than the run's is judged by the run's."""

import pytest

from asyncload_lib.observer import _held_to


@pytest.mark.parametrize(
    ("own_s", "blocked", "max_stall_s", "limit_s", "judged"),
    [
        (0.01, True, 0.02, 0.05, False),
        (0.01, True, 0.06, 0.05, True),
        (0.01, False, 0.0, 0.05, False),
        (0.05, False, 0.0, 0.01, None),
        (0.05, True, 0.06, 0.01, True),
        (0.01, True, 0.02, 0.01, True),
        (0.01, None, 0.0, 0.05, None),
        (0.05, None, 0.0, 0.01, None),
    ],
)
def test_a_limit_of_its_own_is_not_the_limit_of_the_run(
    own_s: float, blocked: bool | None, max_stall_s: float, limit_s: float, judged: bool | None
) -> None:
    row = _held_to(limit_s, {"limit_s": own_s, "blocked": blocked, "max_stall": max_stall_s, "note": ""})
    assert row["blocked"] is judged
    assert ("not under loop.limit" in row["note"]) == (own_s != limit_s)
