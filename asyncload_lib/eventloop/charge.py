"""From what the watchdog saw of a stall to its cause and its culprit."""

from collections import Counter
from dataclasses import replace

from .attribution import QUEUE, Evidence, cause_of
from .clocks import ASLEEP
from .findings import Findings
from .gcpause import GcPause
from .stacks import Place, describe, innermost_own
from .stall import Segment, Stall

__all__ = ["charge"]

NS = 1e9
PROOF_SHARE = 0.15
"""A callback counts as one only if samples of this share of the limit, or more, apart show the same frame."""

MAJORITY = 0.6


def charge(stall: Stall, pauses: list[GcPause], loop_ident: int, findings: Findings) -> None:
    """Enter one late beat into the findings: as a stall with cause and culprit, or as load."""
    callback_s, segment = _longest_callback(stall, findings.limit_s)
    evidence = _evidence(stall, pauses, loop_ident, findings.limit_s, callback_s, segment)
    if evidence.length_s < findings.limit_s:
        return
    cause = cause_of(evidence)
    if cause == QUEUE:
        findings.queue(evidence.length_s)
        return
    place, task = None, ""
    if cause == "loop" and segment is not None:
        place, task = _culprit(segment)
    elif cause == "gil":
        place, task = _holder(stall, findings.limit_s)
    elif cause == "gc":
        place, task = _collection(pauses, segment)
    findings.stall(stall.late.now_ns, evidence.length_s, cause, place, task)


def _evidence(
    stall: Stall, pauses: list[GcPause], loop_ident: int, limit_s: float, callback_s: float, segment: Segment | None
) -> Evidence:
    late = stall.late
    # A collection in the loop's own thread counts by its CPU time: its waits for a CPU are run delay already.
    own = sum(pause.cpu_ns for pause in pauses if pause.ident == loop_ident)
    elsewhere = sum(
        min(pause.end_ns, late.now_ns) - max(pause.start_ns, late.before_ns)
        for pause in pauses
        if pause.ident != loop_ident
    )
    # Steal is counted in ticks of 10 ms over all CPUs: one tick proves nothing about this thread.
    steal = stall.steal_ns if stall.steal_ns >= max(20_000_000, late.length_ns // 2) else 0
    return Evidence(
        length_s=late.length_ns / NS,
        limit_s=limit_s,
        cpu_s=late.cpu_ns / NS,
        run_delay_s=late.run_delay_ns / NS,
        steal_s=steal / NS,
        asleep_s=_asleep_ns(segment) / NS,
        gc_s=own / NS,
        gc_elsewhere_s=elsewhere / NS,
        gil_share=stall.gil_share,
        witness_s=stall.witness_ns / NS,
        refuted_s=stall.refuted_ns / NS,
        witness_delay_s=stall.witness_delay_ns / NS,
        callback_s=max(0.0, callback_s - own / NS),  # a collection is not the callback's, wherever it fell
        samples=stall.samples,
        idle=bool(stall.segments) and all(segment.idle for segment in stall.segments),
    )


def _longest_callback(stall: Stall, limit_s: float) -> tuple[float, Segment | None]:
    """Seconds that one callback ran inside the stall, and its samples.

    A callback seen alone reaches to the stall's edges, but not beyond the signs of life around it. Where others were
    seen too, it reaches half way to them, and half way to the edges, of the time in which the thread had a CPU. One
    that was never seen to sleep has no more than the CPU time.
    """
    late, best, longest = stall.late, None, 0.0
    start = late.now_ns - late.length_ns
    callbacks = [segment for segment in stall.segments if not segment.idle]
    for index, segment in enumerate(callbacks):
        seen = segment.seen_ns
        if seen >= PROOF_SHARE * limit_s * NS:
            before = max(callbacks[index - 1].samples[-1].at_ns if index else start, segment.samples[0].alive_ns)
            after = callbacks[index + 1].samples[0].since_ns if index + 1 < len(callbacks) else late.now_ns
            after = next((sign for sign in late.signs_ns if segment.samples[-1].at_ns < sign < after), after)
            if len(callbacks) == 1:
                reach = _reach_ns(stall, after - before)
                seen = max(seen, min(reach, late.cpu_ns) if segment.is_awake else reach)
            else:
                unseen = max(0, segment.samples[0].since_ns - before) + max(0, after - segment.samples[-1].at_ns)
                lost_ns = late.length_ns - late.cpu_ns if segment.is_awake else late.run_delay_ns
                seen += int(unseen * max(0.0, 1 - lost_ns / max(late.length_ns, 1)) / 2)
        if seen > longest or best is None:
            best, longest = segment, seen
    return min(longest, late.length_ns) / NS, best


def _reach_ns(stall: Stall, between_ns: int) -> int:
    """How long a callback ran for sure that had this time to itself: the whole stall, or what signs of life left of it.

    Waits for a CPU or the GIL are known of the whole stall alone: of a part, they may all have been in it.
    """
    late = stall.late
    if between_ns >= late.length_ns:
        return between_ns
    return between_ns - late.run_delay_ns - min(late.off_cpu_ns, stall.witness_ns)


def _asleep_ns(segment: Segment | None) -> int:
    looks = [sample.at_ns for sample in segment.samples if sample.state == ASLEEP] if segment is not None else []
    steady = segment is not None and len(looks) == len(segment.samples)
    return looks[-1] - looks[0] if looks and steady else 0


def _culprit(segment: Segment) -> tuple[Place | None, str]:
    """The innermost function of the user's own code that most samples are in, at the line where it was seen most."""
    stacks = [sample.stack for sample in segment.samples]
    task = segment.task or stacks[0][0][0].co_qualname
    depth = 0
    while True:
        codes = Counter(stack[depth][0] for stack in stacks if len(stack) > depth)
        if not codes or codes.most_common(1)[0][1] < MAJORITY * len(segment.samples):
            break
        code = codes.most_common(1)[0][0]
        stacks = [stack for stack in stacks if len(stack) > depth and stack[depth][0] is code]
        depth += 1
    index = innermost_own(stacks[0][:depth])
    if index is None:
        return None, task
    usual = Counter(stack[index] for stack in stacks).most_common(1)[0][0]
    return describe(next(stack for stack in stacks if stack[index] == usual), index), task


def _holder(stall: Stall, limit_s: float) -> tuple[Place | None, str]:
    """The thread that kept the GIL: named only if it used a CPU for longer than the limit."""
    if stall.holder is None:
        return None, ""
    named = stall.holder.cpu_ns / NS >= limit_s
    return describe(stall.holder.stack) if named else None, stall.holder.name


def _collection(pauses: list[GcPause], segment: Segment | None) -> tuple[Place | None, str]:
    longest = max(pauses, key=lambda pause: pause.end_ns - pause.start_ns)
    place = describe(longest.stack)
    if place is not None:
        what = f"garbage collection (generation {longest.generation})"
        call = place.call if "gc.collect" in place.call else f"{what} during {place.call}"
        place = replace(place, call=call)
    return place, (segment.task if segment is not None else None) or ""
