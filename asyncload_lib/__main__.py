"""`python -m asyncload_lib demo | report | compare | check`: the commands that need neither load nor Locust."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from asyncload_lib.errors import AsyncloadError, ConfigurationError, ExitCode, ReportError, ResultError

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """Leaves with the exit code of asyncload for a wrong command line; argparse's own 2 belongs to Locust."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.BAD_CONFIGURATION, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error is told in words on stderr."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except AsyncloadError as error:
        print("\n".join(f"asyncload: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return _exit_code(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _run(argv: list[str]) -> int:
    parser = _parser()
    options, others = parser.parse_known_args(argv)
    if options.command == "demo":
        from asyncload_lib.demo.supervisor import main as demo

        return demo(others)
    if others:
        parser.error(f"unknown argument {' '.join(others)}")
    commands = {"report": _report, "compare": _compare, "check": _check}
    return commands[options.command](options)


def _parser() -> _Parser:
    parser = _Parser("python -m asyncload_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo | report | compare | check")
    commands.add_parser("demo", add_help=False, help="start the embedded target and print where it listens")
    report = commands.add_parser("report", help="make the reports of a run again, from its results")
    report.add_argument("results", type=Path, metavar="RESULTS.json")
    report.add_argument("--out", type=Path, metavar="DIR", help="directory to write to (default: that of the results)")
    compare = commands.add_parser("compare", help="compare two runs; exit code 3 if the second is worse")
    compare.add_argument("before", type=Path, metavar="A.json")
    compare.add_argument("after", type=Path, metavar="B.json")
    compare.add_argument("--markdown", type=Path, metavar="FILE", help="also write the comparison here, as Markdown")
    compare.add_argument("--force", action="store_true", help="compare runs even if they are not comparable")
    check = commands.add_parser("check", help="show the settings and criteria that would apply; sends nothing")
    check.add_argument("config", type=Path, nargs="?", metavar="CONFIG.toml")
    return parser


def _exit_code(error: AsyncloadError) -> ExitCode:
    codes: dict[type[AsyncloadError], ExitCode] = {
        ConfigurationError: ExitCode.BAD_CONFIGURATION,
        ResultError: ExitCode.BAD_CONFIGURATION,
        ReportError: ExitCode.REPORT_FAILED,
    }
    return codes.get(type(error), ExitCode.INCOMPLETE)


def _report(options: argparse.Namespace) -> int:
    from asyncload_lib.report.render import render_all
    from asyncload_lib.report.stdout import say
    from asyncload_lib.results.files import load
    from asyncload_lib.results.names import free_timestamps

    results = load(options.results)
    directory = options.out or options.results.parent
    named = re.search(r"\d{8}_\d{6}", options.results.name)  # where it has no time, or its reports stand already: now
    timestamp = next(free_timestamps(directory, [named[0]] if named else []))
    # Not as `latest`: that is the newest run, not the one that was looked at last.
    for _, path in render_all(results, directory, timestamp, latest=False):
        say(str(path))
    return ExitCode.PASS


def _compare(options: argparse.Namespace) -> int:
    from asyncload_lib.report.compared import compared_markdown, compared_plain
    from asyncload_lib.report.stdout import say
    from asyncload_lib.results.files import load, write_atomic
    from asyncload_lib.results.schema import misfit
    from asyncload_lib.verdict.comparison import compare

    before, after = load(options.before), load(options.after)
    for path, results in ((options.before, before), (options.after, after)):
        if problem := misfit(results):
            raise ResultError(f"{path}: {problem}")
    comparison = compare(before, after, force=options.force)
    say(compared_plain(comparison).rstrip("\n"))
    if options.markdown:
        write_atomic(options.markdown, compared_markdown(comparison), overwrite=True)
    if not comparison["comparable"] and not options.force:
        raise ConfigurationError("these runs are not comparable; --force compares them anyway")
    return ExitCode.CRITERIA_FAILED if comparison["change"] == "worse" else ExitCode.PASS


def _check(options: argparse.Namespace) -> int:
    from asyncload_lib.addresses import is_embedded, missing
    from asyncload_lib.report.stdout import say
    from asyncload_lib.settings import OPTIONS, from_sources
    from asyncload_lib.verdict.defaults import not_asked, selected
    from asyncload_lib.verdict.grammar import problems

    settings = from_sources({}, os.environ, options.config, problems)
    if addresses := missing(settings, settings.host, settings.scenarios):
        raise ConfigurationError(addresses)
    effective = settings.redacted()
    width = max(map(len, OPTIONS))
    for key, option in OPTIONS.items():
        say(f"{key:{width}}  {_shown(effective[key], option.kind.written)}  ({settings.origin(key)})")
    say("")
    target = {"embedded": is_embedded(settings, settings.host)}
    planned = {"run": {"kind": "suite", "settings": effective, "target": target}}
    for criterion in selected(
        settings.criteria, settings.scenarios, "suite", settings.loop.limit, defaults=settings.criteria_defaults
    ):
        origin = "default" if criterion.is_default else settings.origin("criteria")
        reason = not_asked(criterion, planned)
        say(f"{criterion.name}  ({origin})" + (f"  not evaluated: {reason}" if reason else ""))
    if settings.host and not settings.loop.probe_token:
        say("")
        say(
            "loop.probe_token is not set: the target's event loop will be watched from outside only, where a burst's "
            'queue looks like a blocked loop. Expect "no data" for max_stall, which counts as a failure. Mount the '
            "LoopProbe (README)."
        )
    return ExitCode.PASS


def _shown(value: Any, written: Callable[[Any], str] = str) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, dict):
        return f"{value['name']} = {value['url']}"
    return "not set" if value is None else written(value)


if __name__ == "__main__":
    sys.exit(main())
