"""The parent of all processes of the demo: starts them, says where they are, and ends them together."""

import argparse
import json
import os
import select
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from asyncload_lib.demo.assembly import PORTS, assemble
from asyncload_lib.demo.children import COMPLAINT, Children
from asyncload_lib.errors import ConfigurationError, ExitCode, TargetError
from asyncload_lib.settings import from_sources

__all__ = ["main"]

HIGHEST_PORT = 65_535
_POLL_S = 0.2
"""How often the supervisor looks whether a child or its parent has died."""


class _EndedError(BaseException):
    """A signal, or the end of the parent, ends the demo in order."""


def main(argv: list[str] | None = None) -> int:
    """Run the demo until a signal comes or the parent is gone (0), or until a process fails (1)."""
    try:
        options = _parse(argv)
    except ConfigurationError as error:
        for problem in error.problems:
            _complain(problem)
        return ExitCode.BAD_CONFIGURATION
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Raised here, an error could come between the start of a child and its entry among the children.
        signal.signal(number, lambda number, _: signals.append(number))
    try:
        with Children() as children:
            return _run(children, options, signals)
    except OSError as error:
        _complain(str(error))
        return 1


def _run(children: Children, options: argparse.Namespace, signals: Sequence[int]) -> int:
    """Start everything and look after it; a failure is told at once, for the others take a while to end."""
    watch = _Watch(children, signals, options.lifeline)
    try:
        ready = assemble(children, options, watch.pause)
        print(json.dumps(ready), flush=True)
        if sys.stderr.isatty():
            print(_for_people(ready), file=sys.stderr, flush=True)
        while True:
            watch.pause(_POLL_S)
    except (_EndedError, BrokenPipeError):
        return 0
    except (TargetError, OSError) as error:
        _complain(str(error))
        return 1


class _Watch:
    """Looks after signals, the parent (when there is a lifeline) and the children, whenever the supervisor waits."""

    def __init__(self, children: Children, signals: Sequence[int], lifeline: bool) -> None:
        self._children = children
        self._signals = signals
        self._lifeline = [sys.stdin.fileno()] if lifeline else []
        self._parent = os.getppid()

    def pause(self, seconds: float) -> None:
        """Wait; raises TargetError when a child has died, _EndedError when the parent has or a signal has come."""
        ended, _, _ = select.select(self._lifeline, [], [], seconds)
        # A process that the parent has forked holds the lifeline open, too; then only the new parent id shows the end.
        if (ended and not os.read(self._lifeline[0], 4096)) or (self._lifeline and os.getppid() != self._parent):
            raise _EndedError
        if self._signals:
            raise _EndedError
        if dead := self._children.dead():
            raise TargetError(self._children.describe_death(dead[0]))


def _for_people(ready: dict[str, Any]) -> str:
    vms = ",".join(f"{vm['name']}={vm['url']}" for vm in ready["vms"])
    return "\n".join(
        [
            f"The demo runs until Ctrl-C: {ready['host']} (blocking: {ready['blocking_host']}). To load it:",
            f"  export ASYNCLOAD_HOST={ready['host']} ASYNCLOAD_BASELINE_HOST={ready['blocking_host']} \\",
            f"    ASYNCLOAD_REDIS_URL={ready['redis_url']} ASYNCLOAD_VMS='{vms}' \\",
            f"    ASYNCLOAD_LOOP_PROBE_PATH={shlex.quote(ready['probe_path'])} \\",
            f"    ASYNCLOAD_LOOP_PROBE_TOKEN={shlex.quote(ready['probe_token'])}",
        ]
    )


def _complain(problem: str) -> None:
    print(f"{COMPLAINT}{problem}", file=sys.stderr, flush=True)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m asyncload_lib demo", description="The embedded target, on loopback.")
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="settings; the environment overrides it")
    parser.add_argument("--port", type=_port, default=0, help=f"the first of {len(PORTS)} ports ({', '.join(PORTS)})")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input or the parent process ends")
    parser.add_argument("--faults", action="store_true", help="let requests ask for faults: ?fault=status:503 ...")
    options = parser.parse_args(argv)
    options.settings = from_sources({}, os.environ, options.config)
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.BAD_CONFIGURATION, f"{COMPLAINT}{message}\n")


def _port(text: str) -> int:
    port, highest = int(text), HIGHEST_PORT + 1 - len(PORTS)
    if not 0 <= port <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 (any that are free) and {highest}")
    return port


if __name__ == "__main__":
    sys.exit(main())
