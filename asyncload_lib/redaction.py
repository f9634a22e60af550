"""Secrets taken out of what is shown or stored: passwords in URLs, secret parameters, values of secret options.

A text may come from a hostile target: whatever it holds, to read it costs its length and no more.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["redact", "redacted", "redacted_command"]

_WORD = re.compile(r"\S+")
# A password up to the last @: it may hold characters that end a host name, and none of them may be shown. An @ in the
# path of an address with a port, or without any password, is no such thing.
_USER_INFO = re.compile(r"(?<=://)(?:(?!(?:\[[^][\s]*\]|[^:@/?#\s]+):\d+/)([^:@/?#\s]*):\S*|[^:@/?#\s]*)@")
# Of Redis the path is a number: whatever stands before an @ is a password.
_REDIS_USER_INFO = re.compile(r"(?:(?<=redis://)|(?<=rediss://))(?:([^:@/?#\s]*):\S*|[^:@/?#\s]*)@")
_WORDS = r"(?:pass|pwd|token|secret|key(?!word|board)|auth(?!ors?(?![a-z]))|sig(?!nal|ht|ma))"
# The name of any other parameter is matched as well, to go on behind it: the next ? may stand within it.
_SECRET_PARAMETER = re.compile(rf"([?&](?=[^=&#\s]*?{_WORDS})[^=&#\s]*+=)(?!\*\*\*)[^&#\s]+|[?&][^=&#\s]*+", re.I)
_CREDENTIALS = re.compile(r"\b(Bearer +(?!\*)[\w.~+/=-]{8,}|Basic +(?=[\w+/]*[\d=])[\w+/=]{8,})")
_PASSWORD = re.compile(r"(?<![?&\w])((?:password|passwd|pwd|secret|token|api[_-]?key) ?= ?)(?!\*\*\*)[^\s&,;]+", re.I)
_SECRET_OPTION = re.compile(rf"--?\S*{_WORDS}", re.I)


def redact(line: str) -> str:
    """Return `line` with passwords in URLs, secret parameters and credentials of headers replaced by `***`."""
    if "@" in line:
        line = _WORD.sub(_without_user_info, line)
    line = _SECRET_PARAMETER.sub(lambda match: f"{match[1]}***" if match[1] else match[0], line)
    line = _PASSWORD.sub(r"\1***", line)
    return _CREDENTIALS.sub(lambda match: f"{match[1].partition(' ')[0]} ***", line)


def _without_user_info(word: re.Match[str]) -> str:
    """Return a word without passwords in URLs: only what ends with its last @ can hold one, and is searched for any."""
    before, at, after = word[0].rpartition("@")
    searched = before + at
    for user_info in (_REDIS_USER_INFO, _USER_INFO):
        searched = user_info.sub(lambda match: f"{match[1]}:***@" if match[1] is not None else "***@", searched)
    return searched + after


def redacted(value: Any) -> Any:
    """Return a JSON value with every text in it redacted; keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list | tuple) else value


def redacted_command(arguments: Iterable[str], flags: Mapping[str, bool]) -> str:
    """Return a command as a shell would take it, with the values of secret options as `***`.

    `flags`: the options that are known, and whether each is secret; of others the name decides.
    """
    shown = []
    is_value = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if is_value and not argument.startswith("-"):
            shown.append("***")
        elif name.startswith("-") and _is_secret(name, flags):
            shown.append(f"{name}=***" if equals and value else argument)
        else:
            shown.append(shlex.quote(redact(argument)))
        is_value = name.startswith("-") and not equals and _is_secret(name, flags)
    return " ".join(shown)


def _is_secret(name: str, flags: Mapping[str, bool]) -> bool:
    """Tell it of an abbreviated name too, as argparse takes it."""
    meant = [name] if name in flags else [flag for flag in flags if name.startswith("--") and flag.startswith(name)]
    return any(flags[flag] for flag in meant) if meant else _SECRET_OPTION.match(name) is not None
