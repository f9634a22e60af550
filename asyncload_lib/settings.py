"""Settings of a run: the table in `options`, filled from a TOML file, the environment and the command line.

Command line beats environment beats file beats default. Every problem of every source is found before anything is sent.
"""

import argparse
import difflib
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from asyncload_lib.errors import ConfigurationError
from asyncload_lib.options import Option, Options, option_rows
from asyncload_lib.redaction import redact
from asyncload_lib.units import NotAllowedError, directory, shown
from asyncload_lib.vm_list import Vm

__all__ = ["CONFIG", "OPTIONS", "Settings", "add_arguments", "from_sources", "value_problems"]

OPTIONS: Mapping[str, Option] = MappingProxyType({option.key: option for option in option_rows()})
CONFIG = Option("config", directory(), None, "TOML file with settings; see asyncload.example.toml")

_BY_VARIABLE = {option.variable: option for option in (CONFIG, *OPTIONS.values())}
_BY_DEST = {option.dest: option for option in (CONFIG, *OPTIONS.values())}

_NOT_ALLOWED = (ValueError, TypeError, OverflowError)
"""What reading a value that is not allowed raises."""


@dataclass(frozen=True, slots=True)
class Settings(Options):
    """What a run is done with: `settings.chat.users`, or `settings["chat.users"]` for a key known at run time."""

    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __getitem__(self, key: str) -> Any:
        if key not in OPTIONS:
            raise KeyError(f"no setting {key!r}{_meant(key, OPTIONS)}")
        return attrgetter(key)(self)

    def origin(self, key: str) -> str:
        """Return where the value comes from: "default", "file", "environment" or "command line"."""
        return self.origins.get(key, "default")

    def redacted(self) -> dict[str, Any]:
        """Return key -> JSON value for display; secrets, and passwords inside URLs, are `***`."""
        return {
            key: "***" if option.secret and self[key] else _plain(self[key], redact) for key, option in OPTIONS.items()
        }

    def fingerprint(self) -> str:
        """Return the SHA-256 of all that the processes of a run must have in common, secrets too."""
        values = {key: _plain(self[key], str) for key, option in OPTIONS.items() if option.shared}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Given:
    """One value as a source brought it, and the words for its place."""

    option: Option
    value: object
    origin: str
    place: str

    def read(self) -> Any:
        """Return the typed value; raises ValueError."""
        is_text = self.origin != "file" and isinstance(self.value, str)
        return self.option.kind.check(self.option.kind.from_text(str(self.value)) if is_text else self.value)

    def problems(self, error: Exception) -> Iterator[str]:
        """Say what came and what is allowed, without a secret."""
        if isinstance(error, NotAllowedError):
            yield from (f"{self.option.key} {self.place}: {detail}" for detail in error.details)
        else:
            came = "***" if self.option.secret else shown(self.value)
            yield f"{self.option.key} {self.place} is {came}; allowed is {self.option.kind.allowed}"


def value_problems(key: str, value: object, place: str) -> list[str]:
    """Say what is wrong with a value of this key that another program has read; [] if it is allowed."""
    given = _Given(OPTIONS[key], value, place, place)
    try:
        given.read()
    except _NOT_ALLOWED as error:
        return list(given.problems(error))
    return []


class _Kept(argparse.Action):
    """Keeps all values of a flag that is given more than once, as a list: argparse would quietly keep the last."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, value: object, _flag: object = None) -> None:
        before = getattr(namespace, self.dest, None)
        kept = before if isinstance(before, list) else [] if before is None else [before]
        setattr(namespace, self.dest, [*kept, value] if kept else value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every option to `parser`, Locust's or a plain one; a flag that is not given stays None.

    An argument of a group never enters Locust's web UI: there it would show secrets, and changing it would do nothing.
    """
    about = "Settings of asyncload; each is also a TOML key and an environment variable."
    group = parser.add_argument_group("asyncload", about)
    for option in (CONFIG, *OPTIONS.values()):
        default = "" if option.default in (None, []) else f" (default {_default_text(option)})"
        text = (option.help + default).replace("%", "%%")
        group.add_argument(option.flag, dest=option.dest, default=None, metavar="TEXT", help=text, action=_Kept)


def from_sources(
    cli: Mapping[str, object],
    environ: Mapping[str, str],
    config: Path | None = None,
    criteria_problems: Callable[[Sequence[str], float], Sequence[str]] = lambda lines, loop_limit_s: (),
) -> Settings:
    """Return the settings of a run; raises ConfigurationError with every problem of every source.

    `cli`: destination (`asyncload_chat_users`) -> text or None, as `vars(namespace)` has it; other names are ignored.
    `config`: the TOML file; without it the one that `cli` or `environ` names. Of a variable, empty text means
    "not given"; of a flag it is a mistake: a run against a system must not quietly become one against the demo.
    `criteria_problems`: says what is wrong with the criteria of one source, given `loop.limit`
    (`verdict.grammar.problems`).
    """
    named, problems = _parted([*_from_environment(environ), *_from_command_line(cli)])
    paths = [(str(given.value), f" {given.place}") for given in named if given.option is CONFIG]
    if config is not None:
        paths.append((str(config), ""))
    in_file, problems_of_file = _parted(_from_file(*paths[-1]) if paths else ())
    problems += problems_of_file

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    wrong: set[str] = set()
    criteria: list[_Given] = []
    for given in (*in_file, *(given for given in named if given.option is not CONFIG)):
        key = given.option.key
        try:
            values[key], origins[key] = given.read(), given.origin
        except _NOT_ALLOWED as error:
            problems += given.problems(error)
            wrong.add(key)
        else:
            if key == "criteria":
                criteria.append(given)
    settings = _settings(values, origins)
    loop_limit_s = 0.0 if "loop.limit" in wrong else settings.loop.limit
    for given in criteria:
        problems += given.problems(NotAllowedError(criteria_problems(given.read(), loop_limit_s)))
    problems += _contradictions(settings, wrong)
    if problems:
        raise ConfigurationError(problems)
    return settings


def _parted(found: Iterable[_Given | str]) -> tuple[list[_Given], list[str]]:
    """Return the values that a source gives, and the problems that it has instead of others."""
    found = list(found)
    return [each for each in found if isinstance(each, _Given)], [each for each in found if isinstance(each, str)]


def _from_file(path: str, place: str) -> Iterator[_Given | str]:
    try:
        content = tomllib.loads(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        yield f"the settings file {shown(path)}{place} cannot be read: {error.strerror or error}"
    except (ValueError, RecursionError) as error:  # malformed TOML or UTF-8; arrays nested thousands deep
        yield f"the settings file {shown(path)}{place} is not valid TOML: {' '.join(str(error).split())}"
    else:
        yield from _in_table(content, "", f"in {path}")


def _in_table(table: Mapping[str, object], prefix: str, place: str) -> Iterator[_Given | str]:
    groups = {key.partition(".")[0] for key in OPTIONS if "." in key}
    for name, value in table.items():
        key = prefix + name
        if key in OPTIONS:
            yield _Given(OPTIONS[key], value, "file", place)
        elif key in groups and isinstance(value, dict):
            yield from _in_table(value, f"{key}.", place)
        elif key in groups:
            yield f"{key} {place} is {shown(value)}; allowed is a table [{key}]"
        else:
            yield f"unknown key {shown(key)} {place}{_meant(key, OPTIONS)}"


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Given | str]:
    for variable, value in environ.items():
        if option := _BY_VARIABLE.get(variable):
            if value.strip():
                yield _Given(option, value, "environment", f"in the environment ({variable})")
        elif variable.startswith("ASYNCLOAD_"):
            yield f"unknown variable {shown(variable)} in the environment{_meant(variable, _BY_VARIABLE)}"


def _from_command_line(cli: Mapping[str, object]) -> Iterator[_Given | str]:
    for dest, value in cli.items():
        if option := _BY_DEST.get(dest):
            place = f"on the command line ({option.flag})"
            if isinstance(value, list):
                times = f"is given {len(value)} times {place}"
                yield f"{option.key} {times}; give it once, with several values in one text"
            elif value is not None and not str(value).strip():
                yield f"{option.key} {place} is empty: give it a value or leave it out"
            elif value is not None:
                yield _Given(option, value, "command line", place)
        elif dest.startswith("asyncload_"):
            yield f"unknown option {shown(dest)} on the command line{_meant(dest, _BY_DEST)}"


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _settings(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    columns: dict[str, Any] = {"origins": origins}
    for column in fields(Options):
        if is_dataclass(column.default):
            prefix = f"{column.name}."
            inner = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
            columns[column.name] = replace(column.default, **inner)  # type: ignore[type-var]
        elif column.name in values:
            columns[column.name] = values[column.name]
    return Settings(**columns)


def _contradictions(settings: Settings, wrong: set[str]) -> Iterator[str]:
    """Say which values, each allowed alone, do not go together; silent about keys that are wrong already."""
    few_users_given = settings.origin("chat.few_users") != "default"
    if few_users_given and settings.chat.few_users > settings.chat.users and "chat.users" not in wrong:
        yield f"chat.few_users is {settings.chat.few_users}; allowed is at most chat.users ({settings.chat.users})"
    if settings.loop.period > settings.loop.limit and not wrong & {"loop.period", "loop.limit"}:
        written = OPTIONS["loop.period"].kind.written
        yield (
            f"loop.period is {written(settings.loop.period)}; allowed is at most loop.limit "
            f"({written(settings.loop.limit)}): a slower heartbeat would miss the stall"
        )
    files = settings.files
    if files.operations * files.bytes > files.max_bytes and not any(key.startswith("files.") for key in wrong):
        written = OPTIONS["files.bytes"].kind.written
        yield (
            f"files.operations times files.bytes is {written(files.operations * files.bytes)}; "
            f"allowed is at most files.max_bytes ({written(files.max_bytes)})"
        )


def _default_text(option: Option) -> str:
    value = option.default
    return ",".join(value) if isinstance(value, list) else str(value)


def _plain(value: Any, text_as: Callable[[str], str]) -> Any:
    """Return `value` as JSON types; every text goes through `text_as`."""
    if isinstance(value, tuple):
        return [_plain(item, text_as) for item in value]
    if isinstance(value, Vm):
        return {name: _plain(item, text_as) for name, item in asdict(value).items()}
    return text_as(str(value)) if isinstance(value, str | Path) else value
