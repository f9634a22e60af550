"""From what the watchdog saw of a stall to its cause and its culprit."""

from collections import Counter
from dataclasses import dataclass, replace

from .attribution import QUEUE, Evidence, cause_of
from .clocks import ASLEEP
from .findings import Findings
from .gcpause import GcPause
from .places import Spot, culprit_spot, innermost_own
from .stacks import is_bare
from .stall import Late, Segment, Stall

__all__ = ["charge"]

NS = 1e9
PROOF_SHARE = 0.15
"""A callback counts as one only if samples of this share of the limit, or more, apart show the same frame."""
LONG_TURNS_PROOF_SHARE = 0.4
"""The same where a turn of the loop is usually long: most of a late beat may then have been other callbacks."""

MAJORITY = 0.6
"""The culprit's stack goes on inwards for as long as this share of the samples agree on the next function."""

STEAL_PROOF_NS = 20_000_000
"""Less steal proves nothing about one thread: it is counted in ticks of 10 ms, over all CPUs."""


@dataclass(frozen=True, slots=True)
class _Callback:
    """One callback of a late beat. It kept the loop for `length_ns` up to `end_ns`, its waits included.

    `own_ns`: how much of that it ran for sure, collections not counted.
    """

    segment: Segment
    own_ns: int
    length_ns: int
    end_ns: int


def charge(stall: Stall, pauses: list[GcPause], loop_ident: int, findings: Findings) -> None:
    """Enter one late beat into the findings: as stalls with cause and culprit, or as load.

    Each callback that alone took longer than the limit is a stall of its own; what others took is one for the beat.
    """
    callbacks = _callbacks(stall, [pause for pause in pauses if pause.ident == loop_ident], findings.limit_s)
    longest = max(callbacks, key=lambda callback: callback.own_ns, default=None)
    evidence = _evidence(stall, pauses, loop_ident, findings.limit_s, longest)
    if evidence.length_s < findings.limit_s:
        return
    cause = cause_of(evidence)
    if cause == QUEUE:
        findings.queue(stall.late.now_ns, evidence.length_s)
        return
    if cause == "loop":
        for callback in callbacks:
            if callback.own_ns / NS >= findings.limit_s:
                findings.stall(callback.end_ns, callback.length_ns / NS, cause, *_culprit(callback.segment))
        return
    spot, task = None, ""
    if cause == "gil":
        spot, task = _holder(stall, findings.limit_s)
    elif cause == "gc":
        spot, task = _collection(pauses, longest.segment if longest is not None else None)
    findings.stall(stall.late.now_ns, evidence.length_s, cause, spot, task)


def _evidence(
    stall: Stall, pauses: list[GcPause], loop_ident: int, limit_s: float, longest: _Callback | None
) -> Evidence:
    late = stall.late
    # A collection in the loop's own thread counts by its CPU time: its waits for a CPU are run delay already.
    # Of a young one only the whole time is known; where a finalizer slept in it, that was not the collector's.
    own = min(sum(pause.cpu_ns for pause in pauses if pause.ident == loop_ident), late.cpu_ns)
    elsewhere = sum(
        min(pause.end_ns, late.now_ns) - max(pause.start_ns, late.before_ns)
        for pause in pauses
        if pause.ident != loop_ident
    )
    steal = stall.steal_ns if stall.steal_ns >= max(STEAL_PROOF_NS, late.length_ns // 2) else 0
    return Evidence(
        length_s=late.length_ns / NS,
        limit_s=limit_s,
        cpu_s=late.cpu_ns / NS,
        run_delay_s=late.run_delay_ns / NS,
        steal_s=steal / NS,
        asleep_s=_asleep_ns(longest.segment if longest is not None else None) / NS,
        gc_s=own / NS,
        gc_elsewhere_s=elsewhere / NS,
        gil_share=_gil_share(stall),
        witness_s=stall.witness_ns / NS,
        refuted_s=stall.refuted_ns / NS,
        witness_delay_s=stall.witness_delay_ns / NS,
        witness_spent_s=stall.witness_spent_ns / NS,
        suspended_s=stall.suspended_ns / NS,
        callback_s=longest.own_ns / NS if longest is not None else 0.0,
        samples=stall.samples,
        idle=bool(stall.segments) and all(segment.idle for segment in stall.segments),
    )


def _gil_share(stall: Stall) -> float | None:
    """Return the share of the looks that found the loop's thread waiting for the GIL; None: not known.

    Without any look it is all of them, if another thread used as much CPU time as the loop's thread was off the CPU: a
    loop that sleeps in a call of its own leaves the GIL to the watchdog, which then looks.
    """
    if stall.samples or stall.holder is None or stall.holder.cpu_ns < stall.late.off_cpu_ns:
        return stall.gil_share
    return 1.0


def _callbacks(stall: Stall, pauses: list[GcPause], limit_s: float) -> list[_Callback]:
    """The callbacks seen inside the stall, in order; `pauses` are those of the loop's own thread."""
    seen = [segment for segment in stall.segments if not segment.idle]
    if len(seen) == 1:
        return [_alone(stall, pauses, seen[0], limit_s)]
    neighbours = zip([None, *seen], seen, [*seen[1:], None], strict=False)
    return [_among(stall, pauses, before, segment, after, limit_s) for before, segment, after in neighbours]


def _alone(stall: Stall, pauses: list[GcPause], segment: Segment, limit_s: float) -> _Callback:
    """A callback seen alone reaches to the stall's edges, but not beyond the signs of life around it.

    One that was never seen to sleep ran no longer than the CPU time.
    """
    late, last = stall.late, segment.samples[-1]
    begin_ns = max(late.begun_ns, segment.samples[0].alive_ns)
    end_ns = late.sign_between(last.at_ns, late.now_ns) or late.now_ns
    own_ns = segment.seen_ns
    if _is_one(late, segment, limit_s):
        reach_ns = _reach_ns(stall, end_ns - begin_ns)
        own_ns = max(own_ns, min(reach_ns, late.cpu_ns) if segment.is_awake else reach_ns)
    collected_ns = _collected_ns(pauses, max(late.before_ns, segment.samples[0].alive_ns), end_ns)
    return _callback(stall, segment, own_ns, collected_ns, begin_ns, end_ns)


def _among(
    stall: Stall,
    pauses: list[GcPause],
    before: Segment | None,
    segment: Segment,
    after: Segment | None,
    limit_s: float,
) -> _Callback:
    """A callback among others reaches to the signs of life around it, or half way to its neighbours and the edges.

    Others that gave no sign may have run in between, and before the stall's first look this must be assumed. So of the
    unseen time only half, and only from that look on, is sure to be its own, and of that the share with a CPU.
    """
    late, first, last = stall.late, segment.samples[0], segment.samples[-1]
    last_before_ns = before.samples[-1].at_ns if before is not None else late.before_ns
    earliest_ns = max(last_before_ns, late.begun_ns, first.alive_ns)
    begin_ns = earliest_ns if first.alive_ns > last_before_ns else (earliest_ns + first.asked_ns) // 2
    latest_ns = after.samples[0].asked_ns if after is not None else late.now_ns
    sign_ns = late.sign_between(last.at_ns, latest_ns)
    if sign_ns is None and after is None and late.signs_ns:
        sign_ns = latest_ns  # a callback behind it would have given one
    end_ns = (last.at_ns + latest_ns) // 2 if sign_ns is None else sign_ns
    own_ns = segment.seen_ns
    if _is_one(late, segment, limit_s):
        before_ns = max(0, first.since_ns - earliest_ns) if before is not None else 0
        unseen_ns = before_ns + max(0, (sign_ns or latest_ns) - last.at_ns)
        lost_ns = late.length_ns - late.cpu_ns if segment.is_awake else late.run_delay_ns
        own_ns += int(unseen_ns * max(0.0, 1 - lost_ns / max(late.length_ns, 1)) / 2)
    collected_ns = _collected_ns(pauses, earliest_ns, sign_ns or latest_ns)
    return _callback(stall, segment, own_ns, collected_ns, begin_ns, end_ns)


def _callback(stall: Stall, segment: Segment, own_ns: int, collected_ns: int, begin_ns: int, end_ns: int) -> _Callback:
    own_ns = min(own_ns, stall.late.length_ns)
    collected_ns = min(collected_ns, stall.late.cpu_ns)  # what a finalizer slept in it was not the collector's
    # What lay between two callbacks is known by its CPU time alone: the waits of the beat may have been anywhere in it.
    length_ns = max(own_ns, end_ns - begin_ns) if segment.samples[0].stack else own_ns
    return _Callback(segment, max(0, own_ns - collected_ns), length_ns, end_ns)


def _collected_ns(pauses: list[GcPause], since_ns: int, until_ns: int) -> int:
    """CPU time of collections between two moments."""
    overlaps = ((pause, min(pause.end_ns, until_ns) - max(pause.start_ns, since_ns)) for pause in pauses)
    return sum(pause.cpu_ns * max(0, ns) // max(pause.end_ns - pause.start_ns, 1) for pause, ns in overlaps)


def _is_one(late: Late, segment: Segment, limit_s: float) -> bool:
    share = LONG_TURNS_PROOF_SHARE if late.has_long_turns else PROOF_SHARE
    return segment.seen_ns >= share * limit_s * NS


def _reach_ns(stall: Stall, between_ns: int) -> int:
    """How long a callback ran for sure within `between_ns`: the whole stall, or the part between two signs of life.

    Waits for a CPU or the GIL are known only of the whole stall: all of them may have been in this part.
    """
    late = stall.late
    if between_ns >= late.length_ns:
        return between_ns
    return between_ns - late.run_delay_ns - min(late.off_cpu_ns, stall.witness_ns)


def _asleep_ns(segment: Segment | None) -> int:
    looks = [sample.at_ns for sample in segment.samples if sample.state == ASLEEP] if segment is not None else []
    steady = segment is not None and len(looks) == len(segment.samples)
    return looks[-1] - looks[0] if looks and steady else 0


def _culprit(segment: Segment) -> tuple[Spot | None, str]:
    """The innermost function of the user's own code that most samples are in, at the line where it was seen most.

    Neither that nor a task, where what kept the loop lay between two callbacks.
    """
    stacks = [sample.stack for sample in segment.samples]
    if not stacks[0]:
        return None, ""
    inside = [stack for stack in stacks if not is_bare(stack)]
    if 2 * len(inside) >= len(stacks):  # the others were taken as the loop went in or out
        stacks = inside
    wanted = MAJORITY * len(stacks)
    task = segment.task or stacks[0][0][0].co_qualname
    depth = 0
    while True:
        codes = Counter(stack[depth][0] for stack in stacks if len(stack) > depth)
        if not codes or codes.most_common(1)[0][1] < wanted:
            break
        code = codes.most_common(1)[0][0]
        stacks = [stack for stack in stacks if len(stack) > depth and stack[depth][0] is code]
        depth += 1
    index = innermost_own(stacks[0][:depth])
    if index is None:
        return None, task
    usual = Counter(stack[index] for stack in stacks).most_common(1)[0][0]
    return culprit_spot(next(stack for stack in stacks if stack[index] == usual), index), task


def _holder(stall: Stall, limit_s: float) -> tuple[Spot | None, str]:
    """The thread that kept the GIL: named only if it used a CPU for longer than the limit."""
    holder = stall.holder
    if holder is None:
        return None, ""
    spot = culprit_spot(holder.stack) if holder.cpu_ns / NS >= limit_s else None
    if spot is not None and holder.has_ended:
        spot = replace(spot, is_afterwards=True)
    return spot, holder.name


def _collection(pauses: list[GcPause], segment: Segment | None) -> tuple[Spot | None, str]:
    longest = max(pauses, key=lambda pause: pause.end_ns - pause.start_ns)
    spot = culprit_spot(longest.stack)
    if spot is not None:
        spot = replace(spot, collection=longest.generation)
    return spot, (segment.task if segment is not None else None) or ""
