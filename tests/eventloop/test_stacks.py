import asyncio
import asyncio.locks
import dis
import sys
from collections.abc import Awaitable, Callable
from types import CodeType
from typing import Any

import pytest

from asyncload_lib.eventloop.places import Position, innermost_own
from asyncload_lib.eventloop.stacks import has_run


async def resumes(work: Callable[[], Awaitable[None]], numbers: list[int]) -> list[int]:
    await work()
    double(numbers)
    numbers += numbers
    double(numbers)
    return numbers


async def waits(work: Callable[[], Awaitable[None]], numbers: list[int]) -> None:
    while double(numbers):
        await work()


def double(numbers: list[int]) -> list[int]:
    return numbers * 2


def begin(function: Callable[..., Any]) -> Position:
    return at(function.__code__, "RESUME", 0)


def at(code: CodeType, name: str, which: int) -> Position:
    return code, [step.offset for step in dis.get_instructions(code) if step.opname == name][which]


@pytest.mark.parametrize(
    ("stack", "has"),
    [
        ((begin(asyncio.Handle._run),), False),  # before the callback
        ((at(asyncio.Handle._run.__code__, "CALL", 0),), True),  # a callback in C
        ((begin(double),), False),
        ((at(resumes.__code__, "CALL", 0), begin(double)), True),  # the argument of `work` may have taken time
        ((at(resumes.__code__, "CALL", 1), begin(double)), False),  # nothing since the `await`
        ((at(resumes.__code__, "CALL", 2), begin(double)), True),  # since the `await` a list was copied
        ((at(resumes.__code__, "CALL", 1),), True),  # the call itself has ended
        ((at(waits.__code__, "CALL", -1), begin(double)), False),  # as in `Queue.get`, the loop has come round
        ((at(waits.__code__, "CALL", 0), begin(double)), True),
        ((at(asyncio.sleep.__code__, "CALL", -2),), False),  # h.cancel()
    ],
)
def test_a_callback_that_has_only_just_begun_is_known(stack: tuple[Position, ...], has: bool) -> None:
    assert has_run(stack) is has


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="only CPython 3.11 has this instruction")
def test_the_call_of_a_builtin_method_begins_at_the_instruction_before_it() -> None:
    """`self._waiters.remove(fut)`, the first thing that asyncio does behind the `await` of an event."""
    code = asyncio.locks.Event.wait.__code__
    await_ends = at(code, "SEND", 0)[1]
    first = min(
        step.offset for step in dis.get_instructions(code) if step.opname == "PRECALL" and step.offset > await_ends
    )

    assert not has_run((begin(double), (code, first)))


def test_code_that_was_no_file_is_the_users_own_only_where_no_file_is() -> None:
    """A decorator of a library is generated code, with a name of its own; so is the program of `python -c`."""

    def at(filename: str) -> Position:
        return compile("pass", filename, "exec"), 0

    handler, generated, library = at("/srv/app.py"), at("<class 'argmap'> compilation 5"), at("/site-packages/nx.py")
    assert innermost_own((library, handler, generated, library)) == 1
    assert innermost_own((library, generated, library)) == 1
    assert innermost_own((library, at("<frozen importlib._bootstrap>"))) == 0
