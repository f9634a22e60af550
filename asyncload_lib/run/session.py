"""One run from its start to its report: what it was, what came of it, and how it ended."""

import logging
import os
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gevent
import gevent.lock

from asyncload_lib import __version__
from asyncload_lib.errors import ExitCode, ReportError
from asyncload_lib.redaction import command_line, redact
from asyncload_lib.report.console import console_table
from asyncload_lib.report.units import counted
from asyncload_lib.results.files import dump
from asyncload_lib.results.model import build_results
from asyncload_lib.results.names import free_timestamps, report_path, results_path
from asyncload_lib.run.coordinator import Coordinator
from asyncload_lib.run.members import Member, differences
from asyncload_lib.run.participant import introduction
from asyncload_lib.settings import OPTIONS, Settings
from asyncload_lib.target import Target
from asyncload_lib.verdict.criteria import evaluate, selected, verdict
from asyncload_lib.verdict.generator import judge_generator

__all__ = ["Session"]

logger = logging.getLogger(__name__)

MOST_EXCEPTIONS = 5
"""Kinds of exceptions that are told one by one."""

CHECKPOINT_SHARE = 0.05
"""The most of the master's time that checkpoints may take; where many workers make them costly, they become rarer."""

Json = dict[str, Any]

_TITLES = {"html": "Report", "md": "Markdown", "xml": "JUnit"}
_PACKAGES = ("locust", "gevent", "redis", "uvloop", "pyreqwest", "numpy")


class Session:
    """Collects the scenarios of one run and writes its results and reports once."""

    def __init__(self, settings: Settings, target: Target, coordinator: Coordinator, kind: str) -> None:
        self.id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
        self.kind = kind
        self.measured: list[Callable[[], Json]] = []
        """Each gives the metric of one scenario as of now: a worker that was silent may still have something to add."""
        self.health: list[Json] = []
        self.problems: list[str] = []
        self.interrupted_by: signal.Signals | None = None
        self.exit_code: ExitCode | None = None
        self.summary = ""
        self.document: Json | None = None
        """The results of the run, once it has ended."""
        self.unwritten = ""
        """Why the report could not be written, if so."""
        self.files: dict[str, Path] = {}
        """Results and reports by their endings, as far as they were written."""
        self._settings = settings
        self._target = target
        self._coordinator = coordinator
        self._started = time.time()
        self._started_s = time.monotonic()
        self.closing = gevent.lock.RLock()
        """Held while the session is closed: whoever comes second must not end the process before all is written."""
        self._checkpoint_cost_s = 0.0
        self._git_commit = _git_commit()

    # -- the document --------------------------------------------------------------------------------------------

    def results(self, metrics: Sequence[Json], *, partial: bool = False) -> Json:
        """Return the results document as of now; `partial` marks a checkpoint of a run that has not ended."""
        settings = self._settings
        generator = judge_generator(
            self.health,
            {
                "cpu_percent_max": settings.generator.max_cpu,
                "loop_lag_p99": settings.generator.max_loop_lag,
                "hub_lag_p99": settings.generator.max_hub_lag,
                "send_delay_p99": settings.generator.max_send_delay,
            },
        )
        totals = self._coordinator.store.workers()
        problems = [*self._not_created(), *self._broken_tasks(), *self.problems, *self._losses(totals)]
        if not any(entry["total_requests"] for metric in metrics for entry in (metric, *metric["phases"])):
            problems.append("no request was answered or failed: there is nothing to judge")
        if not problems and generator["valid"]:
            problems = _unaccounted(metrics)
        if partial:
            status, problems = "partial", ["this is a checkpoint: the run had not ended", *problems]
        elif self.interrupted_by is not None:
            status, problems = "interrupted", [f"the run was ended by {self.interrupted_by.name}", *problems]
        elif problems:
            status = "incomplete"
        elif not generator["valid"]:
            status, problems = "invalid", list(generator["reasons"])
        else:
            status = "complete"
        run, workers = self._run(status, problems), self._workers(totals, generator)
        scenarios = [metric["scenario"] for metric in metrics]
        criteria = selected(
            settings.criteria, scenarios, self.kind, settings.loop.limit, defaults=settings.criteria_defaults
        )
        rows = evaluate(criteria, {"run": run, "metrics": metrics, "generator": generator})
        word, _ = verdict(rows, status, any_failed=_any_failed(metrics))
        return build_results(run, metrics, rows, generator, workers, verdict=word)

    def _run(self, status: str, problems: Sequence[str]) -> Json:
        now = time.time()
        target = self._target
        host = redact(target.host) if target.host else None
        return {
            "id": self.id,
            "kind": self.kind,
            "seed": self._settings.seed,
            "command": command_line(_argv(), {option.flag: option.secret for option in OPTIONS.values()}),
            "started": _iso(self._started),
            "ended": _iso(now),
            "duration_s": round(time.monotonic() - self._started_s, 3),
            "status": status,
            "status_reasons": list(problems),
            "target": {
                "host": host,
                "embedded": target.embedded,
                "mode": target.mode,
            },
            "settings": {**self._settings.redacted(), "host": None if target.embedded else host},  # may be Locust's -H
            "versions": {"asyncload": __version__, **{name: version(name) for name in _PACKAGES}},
            "host": {
                "name": platform.node(),
                "os": platform.platform(),
                "load_average": [round(load, 2) for load in os.getloadavg()],
            },
            "python": platform.python_version(),
            "cpu_count": os.cpu_count(),
            "loop": "uvloop",
            "git_commit": self._git_commit,
            "simulated": target.simulated,
        }

    def _all_metrics(self) -> list[Json]:
        return [measure() for measure in self.measured]

    def _losses(self, totals: Mapping[str, Json]) -> list[str]:
        """Say who was lost with how much, and whose reports could not be read."""
        interval_s = self._coordinator.report_interval_s
        lost = [member for member in self._coordinator.members.values() if member.lost_at is not None]
        if self.interrupted_by is not None:
            lost = [member for member in lost if not member.left]
        ours = introduction(self._settings, self._coordinator.environment)
        late = [member for member in self._coordinator.members.values() if member.is_late]
        others = [(member, differences(ours, member.hello)) for member in late if member.hello]
        return [
            *(f"worker {member.id}, which joined late: {'; '.join(found)}" for member, found in others if found),
            *(_loss(member, totals.get(member.id, {}), interval_s) for member in lost),
            *(f"a report of worker {id_} was refused: {why}" for id_, why in self._coordinator.store.rejected.items()),
        ]

    def _not_created(self) -> list[str]:
        """Say what kept users from being created: load that was asked for and not made."""
        members = self._coordinator.members.values()
        found = dict.fromkeys(member.final.get("not_created") for member in members)
        return [f"not all users could be created: {text}" for text in found if text]

    def _broken_tasks(self) -> list[str]:
        """Say what tasks raised: what was to come after it is load that was not made."""
        raised: Counter[str] = Counter()
        for member in self._coordinator.members.values():
            raised.update(member.final.get("exceptions", {}))
        told = [
            f"{counted(times, 'time')} a task raised an exception and did not go on: {text}"
            for text, times in raised.most_common(MOST_EXCEPTIONS)
        ]
        left = len(raised) - len(told)
        return [*told, f"... and {counted(left, 'other exception')}, which are in the log"] if left > 0 else told

    def _workers(self, totals: Mapping[str, Json], generator: Json) -> list[Json]:
        judged = {row["process"]: row for row in generator["processes"]}
        return [_worker(member, totals.get(member.id, {}), judged) for member in self._coordinator.members.values()]

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write results and reports and settle the exit code; a second call does nothing.

        Results first, exit code second, pictures last: a broken template loses neither data nor verdict.
        """
        with self.closing:
            if self.exit_code is None:
                self._close()

    def _metrics_or_problems(self) -> list[Json]:
        """Return what can be told of each scenario: one that cannot be told must not cost the others."""
        metrics = []
        for number, measure in enumerate(self.measured, 1):
            try:
                metrics.append(measure())
            except Exception as error:
                logger.exception("what scenario %d measured cannot be told", number)
                self.problems.append(f"scenario {number} cannot be told: {type(error).__name__}: {error}")
        return metrics

    def _close(self) -> None:
        self._coordinator.end()
        results = self.results(self._metrics_or_problems())
        self.document = results
        metrics, status = results["metrics"], results["run"]["status"]
        word, code = verdict(results["criteria"], status, any_failed=_any_failed(metrics))
        if self.interrupted_by is not None:
            code = ExitCode.of_signal(self.interrupted_by)
        self.exit_code = code
        lines = [console_table(results)]
        try:
            self._write(results, lines)
        except Exception as error:  # whatever it was: neither table nor exit code may go with it
            if not isinstance(error, ReportError):
                logger.exception("the report could not be written")
            self.exit_code = ExitCode.REPORT_FAILED
            self.unwritten = f"The report could not be written: {error}"
            lines.append(self.unwritten)
            if kept := self.files.get("json"):
                lines.append(f"Make it from the results: python -m asyncload_lib report {kept} --out DIRECTORY")
        self.summary = "\n".join(lines)
        logger.info("run %s: %s, exit code %d", self.id, word, self.exit_code)

    def _write(self, results: Json, lines: list[str]) -> None:
        """Write everything, and add a line for each file that is there; raises ReportError for what could not be."""
        directory = Path(self._settings.out)
        try:
            timestamp, kept = self._dump(results, directory)
        except ReportError:  # what was measured must not be lost with the place that it was to go to
            try:
                kept = self.files["json"] = self._dump(results, Path(tempfile.mkdtemp(prefix="asyncload-results-")))[1]
                lines.append(_line("Results", kept))
            except (OSError, ReportError) as error:
                lines.append(f"The results are kept nowhere, not in the temporary directory either: {error}")
            raise
        self.files["json"] = kept
        lines.append(_line("Results", kept))
        from asyncload_lib.report.render import render_all  # with matplotlib: not before there is something to draw

        try:
            dump(results, directory / "latest.json", overwrite=True)
        finally:
            try:
                render_all(results, directory, timestamp)
            finally:
                for ending, name in _TITLES.items():
                    if (path := report_path(directory, timestamp, ending)).is_file():
                        self.files[ending] = path
                        lines.append(_line(name, path))
        self.checkpoint_path.unlink(missing_ok=True)

    def _dump(self, results: Json, directory: Path) -> tuple[str, Path]:
        """Write under the first second that no other run has taken."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReportError(f"{directory}: {error.strerror}") from error
        timestamps = free_timestamps(directory)
        while True:
            timestamp = next(timestamps)
            path = results_path(directory, timestamp)
            try:
                dump(results, path)
            except FileExistsError:
                continue
            return timestamp, path

    @property
    def checkpoint_path(self) -> Path:
        return Path(self._settings.out) / f"checkpoint_{self.id}.json"

    def checkpoint(self) -> None:
        """Write what is known so far, so that a killed master leaves something to make a report from."""
        begun_s = time.process_time()
        try:
            self.checkpoint_path.parent.mkdir(parents=True, exist_ok=True)
            dump(self.results(self._all_metrics(), partial=True), self.checkpoint_path, overwrite=True)
        except (OSError, ReportError) as error:
            logger.warning("the checkpoint could not be written: %s", error)
        self._checkpoint_cost_s = time.process_time() - begun_s

    def checkpoint_forever(self) -> None:
        """Write a checkpoint every report interval, so that none is older than two, until the session is closed.

        Less often where it costs too much.
        """
        while self.exit_code is None:
            gevent.sleep(max(self._coordinator.report_interval_s, self._checkpoint_cost_s / CHECKPOINT_SHARE))
            with self.closing:  # one that is finished later than the report would stay beside it
                if self.exit_code is None and self.measured:
                    try:
                        self.checkpoint()
                    except Exception:  # whatever it was, the next one may succeed
                        logger.exception("the checkpoint could not be made")


def _loss(member: Member, totals: Json, interval_s: float) -> str:
    heard = f"worker {member.id} was last heard at {_iso(member.lost_at or 0.0)}: {member.lost_why}"
    if member.left:
        return heard
    if member.live:
        return f"{heard}, and came back; what it measured is counted, what it did not do meanwhile is missing"
    if member.last_report is None:
        return f"{heard}; it had reported nothing, and with it goes all it did"
    per_s = totals.get("requests_per_second")
    about = "" if per_s is None else f", about {per_s * interval_s:.0f} operations"
    in_flight = totals.get("in_flight")
    unended = f", and {in_flight} that had been started by then" if in_flight else ""
    lost = f"with it goes at most what it did in the {interval_s:.3g} s after its last report"
    return f"{heard}; {lost}{about}{unended}"


def _worker(member: Member, totals: Json, judged: Mapping[str, Json]) -> Json:
    """Return the row of a worker; how its process did is told with the figures by which it was `judged`, if it was."""
    last = member.final.get("health") or {}
    health = judged.get(last.get("process", ""), last)
    hello = member.hello
    return {
        "id": member.id,
        "host": hello.get("host"),
        "pid": hello.get("pid"),
        "state": member.state,
        "lost_at": None if member.lost_at is None else _iso(member.lost_at),
        "operations": totals.get("operations", 0),
        "in_flight": totals.get("in_flight", 0),
        "requests_per_second": totals.get("requests_per_second"),
        "p95_latency": totals.get("p95_latency"),
        "cpu_percent_max": health.get("cpu_percent_max"),
        "loop_lag_p99": health.get("loop_lag_p99"),
        "hub_lag_p99": health.get("hub_lag_p99"),
        "last_report_age": None if member.last_report is None else round(time.monotonic() - member.last_report, 3),
        "version": hello.get("version"),
        "settings_fingerprint": (hello.get("fingerprint") or "")[:12] or None,
        "clock_offset_s": None if member.round_trip_ns is None else member.offset_ns / 1e9,
        "note": "; ".join(filter(None, ("joined late" if member.is_late else "", member.lost_why, member.note)))
        or None,
    }


def _unaccounted(metrics: Sequence[Json]) -> list[str]:
    """Name the phases in which requests were started that neither ended nor were cut off."""
    found = []
    for metric in metrics:
        for phase in (*metric["phases"], *([metric["baseline"]] if metric["baseline"] else ())):
            ended = phase["successful_requests"] + phase["failed_requests"] + phase["abandoned_requests"]
            if (started := phase["started_requests"]) != ended:
                where = f"{metric['scenario']}.{phase['phase']}"
                found.append(f"{where}: {started} requests were started and {ended} are in its figures")
    return found


def _any_failed(metrics: Sequence[Json]) -> bool:
    return any(entry["failed_requests"] for metric in metrics for entry in (metric, *metric["phases"]))


def _line(name: str, path: Path) -> str:
    return f"  {name:<9}{path}"


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _argv() -> list[str]:
    """Return the command as it was given; of `python -m locust`, `sys.argv` has a path inside the package."""
    return sys.orig_argv if Path(sys.argv[0]).name == "__main__.py" else sys.argv


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
