"""Which of four causes a stall is charged to.

The wall time of a stall, seen from the loop's thread, is split into what others took and what is left:

  machine   runnable but without a CPU (run delay), the hypervisor's steal, or the whole process stopped;
  gc        a garbage collection, in whichever thread;
  gil       neither on a CPU nor waiting for one, but asleep on the GIL;
  own       the rest.

`own` over the limit is charged to the loop, if one callback held it so long. Many short callbacks in a row are load:
they show in the lag, and are no stall. When `own` is under the limit the loop alone would not have been late: the stall
is charged to a collection or to the GIL if that part alone is over the limit, else to the largest part.
"""

from dataclasses import dataclass

__all__ = ["CAUSES", "QUEUE", "Evidence", "cause_of", "shares"]

CAUSES = ("loop", "gil", "gc", "machine")
QUEUE = "queue"
"""The loop was late because of many short callbacks: lag, but no stall."""
WAITERS_MARGIN = 1.25
"""Two threads that wait for the GIL side by side spend the same CPU time on it, to a few percent: with this factor the
watchdog's is an upper bound of the loop's."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured of one stall; all times in seconds.

    asleep_s      time between the first and the last look that found the thread in a blocking call
    gc_s          CPU time of collections in the loop's own thread; gc_elsewhere_s: wall time of those in others
    callback_s    longest time that one single callback is known to have run inside the stall
    gil_share     share of the stack samples in which the loop's thread slept on the GIL; None: not known
    witness_s     how long the watchdog, an independent thread, waited for the GIL while the loop may have waited, too
    refuted_s     how long it waited for the GIL while the loop slept on something else
    witness_delay_s  how long it waited for a CPU
    witness_spent_s  CPU time that its waits for the GIL cost it: a waiting thread wakes in each switch interval
    suspended_s   how long the whole process stood still
    samples       stacks taken during the stall
    idle          none of them showed a callback: the loop had nothing to do, and was not woken
    """

    length_s: float
    limit_s: float
    cpu_s: float = 0.0
    run_delay_s: float = 0.0
    asleep_s: float = 0.0
    steal_s: float = 0.0
    gc_s: float = 0.0
    gc_elsewhere_s: float = 0.0
    gil_share: float | None = None
    witness_s: float = 0.0
    refuted_s: float = 0.0
    witness_delay_s: float = 0.0
    witness_spent_s: float = 0.0
    suspended_s: float = 0.0
    callback_s: float = 0.0
    samples: int = 0
    idle: bool = False


def shares(evidence: Evidence) -> dict[str, float]:
    """Seconds of the stall by cause; they add up to its length.

    Time is on a CPU (`cpu_s`), waiting for one (`run_delay_s`) or off: asleep on the GIL, or in a blocking call.
    """
    length = evidence.length_s
    off_cpu = max(0.0, length - evidence.cpu_s - evidence.run_delay_s)
    suspended = min(off_cpu, evidence.suspended_s)
    off_cpu -= suspended
    gc_elsewhere = min(off_cpu, evidence.gc_elsewhere_s)
    unwitnessed = max(0.0, off_cpu - evidence.witness_s - evidence.refuted_s)
    gil = min(off_cpu, evidence.witness_s + unwitnessed * (evidence.gil_share or 0.0))
    # To wait for the GIL cost the loop's thread what it cost the watchdog: in a long wait more CPU time than the limit.
    waited = evidence.witness_s + evidence.refuted_s
    spent = WAITERS_MARGIN * evidence.witness_spent_s * gil / waited if waited else 0.0
    gil = max(0.0, gil - gc_elsewhere) + min(spent, evidence.cpu_s)
    # The loop hands the GIL to the watchdog, and waits until the machine lets the watchdog run.
    handed_over = min(gil, evidence.witness_delay_s)
    # The run delay covers a little more than the stall, but a thread on a CPU or asleep did not wait for one. Steal is
    # known only of all CPUs together, and may be part of the CPU time, but nothing is stolen from a thread asleep.
    elsewhere = max(0.0, length - max(evidence.cpu_s, evidence.asleep_s))
    stolen = min(evidence.steal_s, max(0.0, length - evidence.asleep_s))
    # A thread whose CPU is stolen keeps the GIL, and the watchdog waits for it: the same time must not count twice.
    parts = {
        "gil": max(0.0, gil - max(handed_over, stolen)),
        "gc": evidence.gc_s + gc_elsewhere,
        "machine": min(evidence.run_delay_s, elsewhere) + max(handed_over, stolen) + suspended,
    }
    scale = min(1.0, length / max(sum(parts.values()), 1e-9))
    parts = {cause: seconds * scale for cause, seconds in parts.items()}
    return {"loop": length - sum(parts.values()), **parts}


def cause_of(evidence: Evidence) -> str:
    """One of CAUSES, or QUEUE."""
    parts = shares(evidence)
    own = parts.pop("loop")
    if own >= evidence.limit_s:
        if evidence.callback_s >= evidence.limit_s:
            return "loop"
        starved = evidence.samples == 0 and evidence.witness_delay_s + evidence.witness_s >= evidence.length_s / 2
        worked = evidence.cpu_s >= evidence.length_s / 2
        return "machine" if (evidence.idle or starved) and not worked else QUEUE
    over = (cause for cause in ("gc", "gil") if parts[cause] >= evidence.limit_s)
    return next(over, max(parts, key=lambda cause: parts[cause]))
