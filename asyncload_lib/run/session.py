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
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gevent
import gevent.lock

from asyncload_lib import __version__
from asyncload_lib.errors import ExitCode, ReportError
from asyncload_lib.redaction import redact, redacted_command
from asyncload_lib.report.console import console_table
from asyncload_lib.results.files import dump
from asyncload_lib.results.model import build_results, utc
from asyncload_lib.results.names import free_timestamps, results_path
from asyncload_lib.run.coordinator import Coordinator
from asyncload_lib.run.members import Member
from asyncload_lib.run.workers import broken_tasks, losses, misfits, not_created, stopped_early, worker_rows
from asyncload_lib.settings import OPTIONS, Settings
from asyncload_lib.target import Target
from asyncload_lib.verdict.criteria import evaluate, verdict
from asyncload_lib.verdict.defaults import selected
from asyncload_lib.verdict.generator import judge_generator

__all__ = ["Session"]

logger = logging.getLogger(__name__)

CHECKPOINT_SHARE = 0.05
"""The most of the master's time that checkpoints may take; where many workers make them costly, they become rarer."""

Json = dict[str, Any]

_TITLES = {"json": "Results", "html": "Report", "md": "Markdown", "xml": "JUnit"}
_PACKAGES = ("locust", "gevent", "redis", "uvloop", "pyreqwest", "numpy")


class Session:
    """Collects the scenarios of one run and writes its results and reports once."""

    def __init__(
        self,
        settings: Settings,
        target: Target,
        coordinator: Coordinator,
        kind: str,
        introduction: Json,
        demo_failure: Callable[[], str | None],
    ) -> None:
        self.id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
        self.kind = kind
        self.measured: list[Callable[[], Json]] = []
        """Each gives the metric of one scenario as of now: a worker that was silent may still have something to add."""
        self.health: list[Json] = []
        """How the processes did in the scenarios that were taken."""
        self.health_at_hand: Callable[[], list[Json]] | None = None
        """Gives the same of the scenario at hand; None once it is taken."""
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
        self._introduction = introduction
        self._demo_failure = demo_failure
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
        members = list(self._coordinator.members.values())
        totals = self._coordinator.store.workers()
        status, reasons = self._status(self._problems(members, totals, metrics), metrics, generator, partial=partial)
        run = self._run(status, reasons)
        scenarios = [metric["scenario"] for metric in metrics]
        criteria = selected(
            settings.criteria, scenarios, self.kind, settings.loop.limit, defaults=settings.criteria_defaults
        )
        rows = evaluate(criteria, {"run": run, "metrics": metrics, "generator": generator})
        word, _ = verdict(rows, status, any_failed=_any_failed(metrics))
        workers = worker_rows(members, totals, generator["processes"], self._introduction)
        return build_results(run, metrics, rows, generator, workers, verdict=word)

    def _problems(self, members: list[Member], totals: Mapping[str, Json], metrics: Sequence[Json]) -> list[str]:
        """Say what keeps the figures from being those of the whole run."""
        coordinator = self._coordinator
        # When the run was interrupted so were its workers: that one left in order is no news.
        to_tell = members if self.interrupted_by is None else [member for member in members if not member.left]
        is_empty = not any(entry["total_requests"] for metric in metrics for entry in (metric, *metric["phases"]))
        demo_failure = self._demo_failure() if self._target.embedded else None
        return [
            *([f"the demo ended during the run: {demo_failure}"] if demo_failure else []),
            *not_created(members),
            *stopped_early(members),
            *broken_tasks(members),
            *misfits(members, self._introduction),
            *self.problems,
            *losses(to_tell, totals, coordinator.report_interval_s),
            *(f"a report from worker {id_} was refused: {why}" for id_, why in coordinator.store.rejected.items()),
            *(["no request was answered or failed: there is nothing to judge"] if is_empty else []),
            *(["the run ended while users were still being spawned"] if _has_only_a_ramp(metrics) else []),
        ]

    def _status(
        self, problems: list[str], metrics: Sequence[Json], generator: Json, *, partial: bool
    ) -> tuple[str, list[str]]:
        """Return what became of the run in one word, and the reasons for it."""
        if partial:
            return "partial", ["this is a checkpoint: the run had not ended", *problems]
        if not problems and generator["valid"]:
            problems = _unaccounted(metrics)
        if self.interrupted_by is not None:
            return "interrupted", [f"the run was ended by {self.interrupted_by.name}", *problems]
        if problems:
            return "incomplete", problems
        if not generator["valid"]:
            return "invalid", list(generator["reasons"])
        return "complete", []

    def _run(self, status: str, problems: Sequence[str]) -> Json:
        now = time.time()
        target = self._target
        host = redact(target.host) if target.host else None
        return {
            "id": self.id,
            "kind": self.kind,
            "seed": self._settings.seed,
            "command": redacted_command(_argv(), {option.flag: option.secret for option in OPTIONS.values()}),
            "started": utc(self._started),
            "ended": utc(now),
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

    def take_health(self) -> None:
        """Keep how the processes did in the scenario at hand, unless that is done."""
        if self.health_at_hand is not None:
            self.health += self.health_at_hand()
            self.health_at_hand = None

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write results and reports and settle the exit code; to be called once, by who holds `closing`.

        Results first, verdict second, pictures last: a broken template loses neither data nor verdict.
        """
        self._coordinator.end()
        try:
            self.take_health()  # before the metrics, which may wait for the target while the processes do nothing
        except Exception as error:
            logger.exception("how the processes did could not be told")
            self.problems.append(f"how the processes did could not be told: {type(error).__name__}: {error}")
        results = self.results(self._metrics_or_problems())
        self.document = results
        metrics, status = results["metrics"], results["run"]["status"]
        word, code = verdict(results["criteria"], status, any_failed=_any_failed(metrics))
        if self.interrupted_by is not None:
            code = ExitCode.of_signal(self.interrupted_by)
        # Until it is written: also where this greenlet is killed meanwhile.
        self.exit_code, self.unwritten = ExitCode.REPORT_FAILED, "The report is not written yet"
        self.summary = f"{console_table(results)}\n{self.unwritten}"
        failure: list[str] = []
        try:
            self._write(results)
            self.exit_code, self.unwritten = code, ""
        except Exception as error:  # whatever it was: neither table nor exit code may go with it
            if not isinstance(error, ReportError):
                logger.exception("the report could not be written")
            self.unwritten = f"The report could not be written: {error}"
            failure.append(self.unwritten)
            if kept := self.files.get("json"):
                failure.append(f"To make it from the results: python -m asyncload_lib report {kept} --out DIRECTORY")
        written = [f"  {title:<9}{self.files[ending]}" for ending, title in _TITLES.items() if ending in self.files]
        self.summary = "\n".join([console_table(results), *written, *failure])
        logger.info("run %s: %s, exit code %d", self.id, word, self.exit_code)

    def _metrics_or_problems(self) -> list[Json]:
        """Return what can be told of each scenario: one that cannot be told must not cost the others."""
        metrics = []
        for number, measure in enumerate(self.measured, 1):
            try:
                metrics.append(measure())
            except Exception as error:
                logger.exception("the results of scenario %d could not be computed", number)
                told = f"the results of scenario {number} could not be computed"
                self.problems.append(f"{told}: {type(error).__name__}: {error}")
        return metrics

    def _write(self, results: Json) -> None:
        """Write everything, and note each file that is there; raises ReportError for what could not be."""
        directory = Path(self._settings.out)
        timestamp = self._write_results(results, directory)
        from asyncload_lib.report.render import render_all  # with jinja2: not before there is something to render

        try:
            dump(results, directory / "latest.json", overwrite=True)
        finally:
            for ending, path in render_all(results, directory, timestamp):
                self.files[ending] = path
        self.checkpoint_path.unlink(missing_ok=True)

    def _write_results(self, results: Json, directory: Path) -> str:
        """Return under which timestamp they stand; what was measured is not lost with the place it was to go to."""
        try:
            timestamp, self.files["json"] = self._dump(results, directory)
        except ReportError as problem:
            try:
                _, self.files["json"] = self._dump(results, Path(tempfile.mkdtemp(prefix="asyncload-results-")))
            except (OSError, ReportError) as error:
                nowhere = "The results could not be saved anywhere, not even in the temporary directory"
                raise ReportError(f"{problem}\n{nowhere}: {error}") from error
            raise
        return timestamp

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
            metrics = [measure() for measure in self.measured]
            dump(self.results(metrics, partial=True), self.checkpoint_path, overwrite=True)
        except (OSError, ReportError) as error:
            logger.warning("the checkpoint could not be written: %s", error)
        self._checkpoint_cost_s = time.process_time() - begun_s

    def checkpoint_forever(self) -> None:
        """Write a checkpoint every report interval, so that none is older than two, until the session is closed.

        Less often where that would take more than CHECKPOINT_SHARE of the time.
        """
        while self.exit_code is None:
            gevent.sleep(max(self._coordinator.report_interval_s, self._checkpoint_cost_s / CHECKPOINT_SHARE))
            with self.closing:  # one that is finished later than the report would stay beside it
                if self.exit_code is None and self.measured:
                    try:
                        self.checkpoint()
                    except Exception:  # whatever it was, the next one may succeed
                        logger.exception("the checkpoint could not be made")


def _unaccounted(metrics: Sequence[Json]) -> list[str]:
    """Name the phases in which requests were started that neither ended nor were cut off."""
    found = []
    for metric in metrics:
        for phase in (*metric["phases"], *([metric["baseline"]] if metric["baseline"] else ())):
            ended = phase["successful_requests"] + phase["failed_requests"] + phase["abandoned_requests"]
            if (started := phase["started_requests"]) != ended:
                where = f"{metric['scenario']}.{phase['phase']}"
                found.append(f"{where}: {started} requests were started, but {ended} are accounted for")
    return found


def _has_only_a_ramp(metrics: Sequence[Json]) -> bool:
    """Whether the users of a free run were never all there, so that nothing is in the phase that is judged."""
    names = {phase["phase"] for metric in metrics for phase in metric["phases"]}
    return "ramp" in names and "run" not in names


def _any_failed(metrics: Sequence[Json]) -> bool:
    return any(entry["failed_requests"] for metric in metrics for entry in (metric, *metric["phases"]))


def _argv() -> list[str]:
    """Return the command as it was given; of `python -m locust`, `sys.argv` has a path inside the package."""
    return sys.orig_argv if Path(sys.argv[0]).name == "__main__.py" else sys.argv


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
