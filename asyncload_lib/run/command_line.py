"""Settings out of Locust's command line: flags that its parser takes, and which of two hosts is loaded."""

import os
import sys
from typing import Any

from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from asyncload_lib.errors import ConfigurationError
from asyncload_lib.run.processes import prepare_processes
from asyncload_lib.run.terminal import tell
from asyncload_lib.settings import CONFIG, OPTIONS, Settings, add_arguments, from_sources
from asyncload_lib.verdict.grammar import problems as criteria_problems

__all__ = ["extend", "settings_of"]

_STRENGTH = {"default": 0, "file": 1, "environment": 2, "command line": 3}
_SOURCES = {"defaults": "default", "config_file": "file", "environment_variables": "environment"}
"""Where a value comes from, as Locust's parser calls it."""

_parsers: list[LocustArgumentParser] = []
"""The one that reads the command line, once it is there."""


def extend(parser: LocustArgumentParser) -> None:
    """Add the flags to a parser of Locust's; the first of them sees to its processes as soon as it has parsed."""
    add_arguments(parser)
    if _parsers:  # Locust's web UI makes more of them, when the master has its port
        return
    _parsers.append(parser)
    parse_args = parser.parse_args

    def parse_and_prepare(*args: Any, **kwargs: Any) -> Any:
        options = parse_args(*args, **kwargs)
        try:
            prepare_processes(options)
        except ConfigurationError as error:
            sys.exit(tell(error))
        return options

    parser.parse_args = parse_and_prepare  # Locust has no event between this and its forks


def settings_of(environment: Environment) -> Settings:
    """Return the settings, and give the environment their host if it is from a stronger source than Locust's own.

    Takes them out of Locust's options. Raises ConfigurationError.
    """
    options = vars(environment.parsed_options)
    try:
        settings = from_sources(options, os.environ, criteria_problems=criteria_problems)
    finally:
        # The master's options are sent to every worker: secrets must not cross, nor replace the worker's own.
        for option in (CONFIG, *OPTIONS.values()):
            options.pop(option.dest, None)
    origin = _origin_of_host(environment.host)
    if settings.host and _STRENGTH[settings.origin("host")] > _STRENGTH[origin]:
        environment.host = settings.host
    return settings


def _origin_of_host(host: str | None) -> str:
    """Say where Locust's own host comes from, in the words of `Settings.origin`; "default" if there is none.

    Raises ConfigurationError for a flag that is empty.
    """
    if host is None:
        return "default"
    sources = _parsers[0].get_source_to_settings_dict() if _parsers else {}
    for source, given in sources.items():  # of the command line it holds no more than the words
        if any(action is not None and action.dest == "host" for action, _ in given.values()):
            return _SOURCES[source.partition("|")[0]] if host else "default"
    if not host.strip():
        raise ConfigurationError("host on the command line (--host) is empty: give it a value or leave it out")
    return "command line"
