"""Mistakes in a user class that would block the loop, found when the class is defined."""

import inspect

from locust import User

__all__ = ["check_definition"]


def check_definition(cls: type[User], async_base: type[User]) -> None:
    """Raise TypeError, in one sentence, for what would run on greenlets in a subclass of `async_base`."""
    for base in cls.__mro__:
        if issubclass(base, User) and base is not User and not issubclass(base, async_base):
            raise TypeError(
                f"{cls.__name__}: {base.__name__} waits on greenlets and would block the loop of an AsyncUser; "
                "write two user classes"
            )
    for entry in cls.tasks:
        if isinstance(entry, type):
            raise TypeError(
                f"{cls.__name__}: {entry.__name__} is a TaskSet, whose tasks run on greenlets; "
                "an AsyncUser takes only `async def` tasks, written on the user class itself"
            )
        if not inspect.iscoroutinefunction(entry):
            name = getattr(entry, "__name__", repr(entry))
            raise TypeError(f"{cls.__name__}: task {name} is a plain function; write `async def {name}`")
    for name in ("on_start", "on_stop"):
        if not inspect.iscoroutinefunction(getattr(cls, name)):
            raise TypeError(f"{cls.__name__}: {name} is a plain function; write `async def {name}`")
