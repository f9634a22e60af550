"""CPU time of one `request` event with and without asyncload's listener: `recorder_cost.py ROUNDS`; prints JSON.

Short blocks with and without it alternate, so that other processes of the machine disturb few pairs; each value is the
median of many pairs. Added to it is the binning, which the recorder does once a second for that second's requests. The
load has 20 names and 2 % failures.
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Callable

from locust.env import Environment
from locust.user import User

from asyncload_lib.run.health import ProcessHealth
from asyncload_lib.run.participant import Participant
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users.base import loop_thread

BLOCK = 2_000
PAIRS = 25
BLOCKS_PER_S = 10
"""20,000 requests a second, as in a run at full speed."""
ERROR = ConnectionError("the server hung up")


def requests(count: int) -> list[dict[str, object]]:
    drawn = random.Random(1)
    return [
        {
            "request_type": "POST",
            "name": f"/api/endpoint/{drawn.randrange(20)}",
            "response_time": drawn.lognormvariate(2, 1),
            "response_length": 100,
            "exception": ERROR if drawn.random() < 0.02 else None,
            "context": {},
            "start_time": 0.0,
            "url": None,
            "response": None,
        }
        for _ in range(count)
    ]


def block_us(environment: Environment, block: list[dict[str, object]]) -> float:
    fire: Callable[..., None] = environment.events.request.fire
    begun_ns = time.thread_time_ns()
    for event in block:
        fire(**event, ended_ns=time.perf_counter_ns())
    return (time.thread_time_ns() - begun_ns) / 1e3 / len(block)


def fold_us(environment: Environment, participant: Participant, block: list[dict[str, object]]) -> float:
    """Return what it costs to bin the requests of a second, per request."""
    participant.recorder.fold()  # what the pairs have left
    for _ in range(BLOCKS_PER_S):
        block_us(environment, block)
    begun_ns = time.thread_time_ns()
    participant.recorder.fold()
    return (time.thread_time_ns() - begun_ns) / 1e3 / len(block) / BLOCKS_PER_S


def main(rounds: int) -> None:
    environment = Environment(user_classes=[User])
    environment.create_local_runner()
    participant = Participant(environment, Settings(), Target(), ProcessHealth(loop_thread(), Settings()))
    hook, listener = environment.events.request, participant.recorder.on_request
    block = requests(BLOCK)
    block_us(environment, block)
    without, added = [], []
    for _ in range(rounds):
        pairs = []
        for _ in range(PAIRS):
            both_us = block_us(environment, block)
            hook.remove_listener(listener)
            pairs.append((both_us, block_us(environment, block)))
            hook.add_listener(listener)
        without.append(statistics.median(plain_us for _, plain_us in pairs))
        binning_us = fold_us(environment, participant, block)
        added.append(statistics.median(both_us - plain_us for both_us, plain_us in pairs) + binning_us)
    counted = participant.recorder.results()["run"]
    requests_seen = sum(endpoint.ok.count + endpoint.failed.count for endpoint in counted.endpoints.values())
    participant.close()
    sent = (1 + rounds * (PAIRS + BLOCKS_PER_S)) * BLOCK
    if requests_seen != sent:
        raise ValueError(f"{sent} requests were fired, {requests_seen} recorded")
    print(json.dumps({"without": without, "added": added}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
