"""Which signal ended this process, and an end in order where Locust, still starting up, has none."""

import os
import signal
from typing import Any

import gevent
from locust.runners import STATE_INIT, MasterRunner, Runner, WorkerRunner

from asyncload_lib.errors import ExitCode

__all__ = ["Signals"]

_FAREWELL_S = 0.2


class Signals:
    """Notes SIGINT, SIGTERM and SIGHUP; made once, in Locust's `init` event, on the main greenlet.

    The first ends the run in order, a SIGINT after that at once. How Locust ends is its own affair, but for four gaps:
    a shape would go on while the users are stopped, SIGTERM is heard only when a shape has ended, a lost terminal
    would end all without a report, and before the run there is no end in order: a master that waits for workers would
    leave those who have come behind.
    """

    def __init__(self, runner: Runner, *, headless: bool) -> None:
        self.came: signal.Signals | None = None
        self.is_starting = True
        """Whether the `init` event goes on, in which the demo is started."""
        self.is_over = False
        """Whether the report is written, so that there is nothing left to end in order."""
        self._terminals = [file for file in (1, 2) if os.isatty(file)]
        self._runner = runner
        self._headless = headless
        self._main = gevent.getcurrent()
        signal.signal(signal.SIGINT, self._on_interrupt)
        gevent.signal_handler(signal.SIGTERM, self._on_termination, signal.SIGTERM)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # else somebody, such as nohup, wants it otherwise
            gevent.signal_handler(signal.SIGHUP, self._on_termination, signal.SIGHUP)

    def _on_interrupt(self, number: int, frame: Any) -> None:
        if self.came is not None:
            # Whatever the process is at, nothing of it may run on; those that it has started see that it is gone.
            os._exit(ExitCode.INTERRUPTED)
        self.came = signal.SIGINT
        if self._is_before_the_run:
            gevent.spawn(self._give_up)
        elif not self._end_in_order():
            # Raised here, it would end whichever greenlet happens to run, perhaps the one that hears the workers.
            gevent.kill(self._main, KeyboardInterrupt)

    def _on_termination(self, number: signal.Signals) -> None:
        if self.came is not None:
            return
        self.came = number
        if number == signal.SIGHUP:
            self._let_go_of_terminals()
        if self._is_before_the_run:
            self._give_up()
            return
        self._end_in_order()
        if number == signal.SIGHUP:
            os.kill(os.getpid(), signal.SIGTERM)  # which Locust hears

    def _let_go_of_terminals(self) -> None:
        """Print nowhere from now on: whoever prints into a terminal that is gone fails, and the report with him."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for file in self._terminals:
            os.dup2(nowhere, file)
        os.close(nowhere)

    def _end_in_order(self) -> bool:
        """Say so, and have the shape begin nothing more; True if Locust, which waits for it, then ends everything."""
        assert self.came is not None
        runner = self._runner
        if not isinstance(runner, WorkerRunner) and not self.is_over:
            limit_s = runner.environment.stop_timeout or 0.0
            _print(
                f"{self.came.name}: stopping; nothing new is started, running operations have up to {limit_s:g} s to "
                "finish. Press Ctrl-C to end at once, without a report."
            )
        shape = runner.shape_greenlet
        if shape is not None:
            shape.kill(block=False)
        return self._headless and shape is not None

    @property
    def _is_before_the_run(self) -> bool:
        """Whether the demo is still being started, or this is a master whose workers are not all there yet."""
        runner = self._runner
        is_idle = runner.state == STATE_INIT and runner.shape_greenlet is None
        return self._headless and is_idle and (self.is_starting or isinstance(runner, MasterRunner))

    def _give_up(self) -> None:
        assert self.came is not None
        if isinstance(self._runner, MasterRunner):
            self._runner.send_message("quit")
            gevent.sleep(_FAREWELL_S)
        _print(f"ended by {self.came.name} before the run began; nothing was sent")
        gevent.kill(self._main, SystemExit(ExitCode.of_signal(self.came)))


def _print(line: str) -> None:
    """Print on stderr, past its buffer, which the code that a signal interrupts may be holding."""
    os.write(2, f"asyncload: {line}\n".encode())
