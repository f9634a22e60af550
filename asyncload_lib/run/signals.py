"""Which signal ended this process, and an end in order where Locust, still starting up, has none."""

import os
import signal
from typing import Any

import gevent
from locust.runners import STATE_INIT, MasterRunner, Runner

__all__ = ["Signals"]

_FAREWELL_S = 0.2


class Signals:
    """Notes SIGINT and SIGTERM; made once, in Locust's `init` event, on the main greenlet.

    What happens then is Locust's affair, but for two gaps: it listens to SIGTERM only when a shape has ended, and a
    master that waits for workers leaves those who have come behind.
    """

    def __init__(self, runner: Runner, *, headless: bool) -> None:
        self.came: signal.Signals | None = None
        self._runner = runner
        self._headless = headless
        self._main = gevent.getcurrent()
        self._interrupt = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, self._on_interrupt)
        gevent.signal_handler(signal.SIGTERM, self._on_termination)

    def _on_interrupt(self, number: int, frame: Any) -> None:
        is_first, self.came = self.came is None, signal.SIGINT
        if is_first and self._is_waiting:
            gevent.spawn(self._give_up)
        elif is_first:
            # Raised here, it would end whichever greenlet happens to run, perhaps the one that hears the workers.
            gevent.kill(self._main, KeyboardInterrupt)
        elif callable(self._interrupt):
            self._interrupt(number, frame)

    def _on_termination(self) -> None:
        if self.came is not None:
            return
        self.came = signal.SIGTERM
        if self._is_waiting:
            self._give_up()
        elif self._headless and self._runner.shape_greenlet is not None:
            gevent.kill(self._main, KeyboardInterrupt)

    @property
    def _is_waiting(self) -> bool:
        """Whether this is a master whose workers are not all there yet."""
        runner = self._runner
        is_idle = runner.state == STATE_INIT and runner.shape_greenlet is None
        return self._headless and is_idle and isinstance(runner, MasterRunner)

    def _give_up(self) -> None:
        assert self.came is not None
        self._runner.send_message("quit")
        gevent.sleep(_FAREWELL_S)
        os.write(2, f"asyncload: ended by {self.came.name} while waiting for workers; nothing was sent\n".encode())
        gevent.kill(self._main, SystemExit(128 + self.came))
