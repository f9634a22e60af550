import os
import signal
import sys
from collections.abc import Iterator

import pytest

from asyncload_lib.eventloop.switching import SwitchInterval


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield
    sys.setswitchinterval(before)


def test_the_shortest_that_is_wanted_holds_and_at_the_end_what_was_before() -> None:
    interval = SwitchInterval()
    seen = []
    interval.want("a", 0.002)
    seen.append(sys.getswitchinterval())
    interval.want("b", 0.0005)
    seen.append(sys.getswitchinterval())
    interval.want("a", 0.001)
    seen.append(sys.getswitchinterval())
    interval.leave("b")
    seen.append(sys.getswitchinterval())
    interval.leave("a")
    seen.append(sys.getswitchinterval())
    interval.leave("a")

    assert seen == pytest.approx([0.002, 0.0005, 0.0005, 0.001, 0.005])


def test_it_is_never_made_longer() -> None:
    sys.setswitchinterval(0.001)
    interval = SwitchInterval()
    interval.want("a", 0.002)

    assert sys.getswitchinterval() == pytest.approx(0.001)


def test_it_goes_back_to_what_others_set_meanwhile() -> None:
    interval = SwitchInterval()
    interval.want("a", 0.002)
    sys.setswitchinterval(0.010)
    interval.want("a", 0.0005)
    wanted = sys.getswitchinterval()
    interval.leave("a")

    assert (wanted, interval.usual_s, sys.getswitchinterval()) == pytest.approx((0.0005, 0.010, 0.010))


def test_a_forked_child_has_the_usual_interval_and_may_want_another() -> None:
    interval = SwitchInterval()
    interval.want("a", 0.002)
    with interval._lock:  # as if another thread were inside it at the fork
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # instead of hanging for ever
            forked = sys.getswitchinterval()
            interval.want("b", 0.001)
            right = abs(forked - 0.005) < 1e-9 and abs(sys.getswitchinterval() - 0.001) < 1e-9
            os._exit(0 if right else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
