"""What Locust's options and the settings ask of a run that it cannot do: found before anything is sent."""

import math
import tempfile
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from locust.env import Environment
from locust.user.task import filter_tasks_by_tags

from asyncload_lib.report.numbers import counted
from asyncload_lib.settings import Settings
from asyncload_lib.verdict.defaults import out_of_place

__all__ = ["contradictions"]


def contradictions(environment: Environment, settings: Settings, scenarios: Collection[str]) -> list[str]:
    """Return one sentence for each thing that a run of `scenarios` was asked for and cannot do.

    Criteria of a file or of the environment may be those of more runs than this one: such are not evaluated. Those of
    the command line are meant for this one.
    """
    is_meant = settings.origin("criteria") == "command line"
    return [
        *_unwritable(settings),
        *_without_tasks(environment),
        *_nobody(environment),
        *_endless_ramp(environment),
        *(out_of_place(settings.criteria, scenarios) if is_meant else ()),
    ]


def _unwritable(settings: Settings) -> Iterator[str]:
    """Look at the directory of the reports."""
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.out):
            pass
    except OSError as error:
        yield f"out is {settings.out}, where nothing can be written: {error.strerror}"


def _without_tasks(environment: Environment) -> Iterator[str]:
    """Name the user classes that `--tags` or `--exclude-tags` leave without a task; filters as Locust will at start."""
    options = environment.parsed_options
    flags = {"--tags": getattr(options, "tags", None), "--exclude-tags": getattr(options, "exclude_tags", None)}
    given = " ".join(f"{flag} {' '.join(tags)}" for flag, tags in flags.items() if tags)
    if not given:
        return
    wanted, unwanted = (set(tags) if tags else None for tags in flags.values())
    with_tasks = [user_class for user_class in environment.user_classes if user_class.tasks]
    known = sorted({tag for user_class in with_tasks for tag in _tags(user_class.tasks)})
    for user_class in with_tasks:
        filter_tasks_by_tags(user_class, wanted, unwanted)
    if left := [user_class.__name__ for user_class in with_tasks if not user_class.tasks]:
        there_are = f"the known tags are {', '.join(known)}" if known else "no task has a tag"
        yield f"{given} leaves {', '.join(left)} without a task; {there_are}"


def _tags(tasks: Iterable[Any]) -> set[str]:
    """Return the tags of tasks, and of those that they hold."""
    return {
        tag
        for task in tasks
        for tag in (*getattr(task, "locust_tag_set", ()), *_tags(getattr(task, "tasks", ())))
    }  # fmt: skip


def _nobody(environment: Environment) -> Iterator[str]:
    """Say so where no user is asked for."""
    options: Any = environment.parsed_options
    if not environment.shape_class and getattr(options, "headless", False) and options.num_users == 0:
        yield "the number of users (-u) is 0; allowed is 1 or more"


def _endless_ramp(environment: Environment) -> Iterator[str]:
    """Say so where the run is over before all users are there: what comes before that is in no result."""
    options: Any = environment.parsed_options
    if environment.shape_class or not getattr(options, "headless", False) or not options.run_time:
        return
    users, rate = options.num_users or 1, options.spawn_rate or 1
    # Locust spawns `rate` users at once in every second, or one as often as a rate below 1 says.
    ramp_s = math.ceil(users / rate) - 1 if rate >= 1 else (users - 1) / rate
    if ramp_s >= options.run_time:
        yield (
            f"{counted(users, 'user')} at {rate:g} per second (--spawn-rate) take {ramp_s:g} s to start, but the run "
            f"ends after {options.run_time:g} s (--run-time): nothing would be measured; use a longer run or a higher "
            "rate"
        )
