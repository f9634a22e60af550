"""How soon CPython makes a thread that holds the GIL give it up to one that asks for it: one value for the process."""

import os
import sys

from .native import native

__all__ = ["SwitchInterval", "switch_interval"]


class SwitchInterval:
    """The switch interval, made shorter for as long as somebody wants it; the shortest that is wanted holds.

    When nobody wants it any more it goes back to what it was, or to what others have set meanwhile. Usable from any
    thread. Times in seconds.
    """

    def __init__(self) -> None:
        self._set_s = self._usual_s = sys.getswitchinterval()
        self._renew()
        os.register_at_fork(after_in_child=self._renew)  # whoever wanted it is not in the child

    def _renew(self) -> None:
        self._lock = native("_thread", "allocate_lock")()
        self._wanted: dict[object, float] = {}
        self._set()

    @property
    def usual_s(self) -> float:
        """The interval where nobody wants a shorter one."""
        return self._usual_s

    def want(self, who: object, seconds: float) -> None:
        """Let it be no longer than this until `who` wants something else or leaves."""
        if self._wanted.get(who) != seconds:
            with self._lock:
                self._wanted[who] = seconds
                self._set()

    def leave(self, who: object) -> None:
        """Forget what `who` wanted."""
        if who in self._wanted:
            with self._lock:
                del self._wanted[who]
                self._set()

    def _set(self) -> None:
        now_s = sys.getswitchinterval()
        if now_s != self._set_s:
            self._usual_s = now_s
        wanted_s = min([self._usual_s, *self._wanted.values()])
        if wanted_s != now_s:
            sys.setswitchinterval(wanted_s)
        self._set_s = sys.getswitchinterval()  # CPython keeps whole microseconds


switch_interval = SwitchInterval()
