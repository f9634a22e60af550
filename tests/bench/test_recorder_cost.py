from collections.abc import Iterator

import pytest
from locust.env import Environment
from locust.user import User

from asyncload_lib.run.health import ProcessHealth
from asyncload_lib.run.participant import Participant
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users.base import loop_thread
from bench.inside.recorder_cost import BLOCKS_PER_S, block_us, fold_us, requests


@pytest.fixture
def participant() -> Iterator[Participant]:
    environment = Environment(user_classes=[User])
    environment.create_local_runner()
    made = Participant(environment, Settings(), Target(), ProcessHealth(loop_thread(), Settings()))
    yield made
    made.close()


def test_only_the_requests_of_its_second_are_binned_while_the_clock_runs(
    participant: Participant, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, block, binned = participant.recorder, requests(20), []
    fold = recorder.fold

    def noted() -> None:
        binned.append(sum(map(len, (*recorder._ok.values(), *recorder._failed.values()))))
        fold()

    block_us(participant.environment, block)
    monkeypatch.setattr(recorder, "fold", noted)

    assert fold_us(participant.environment, participant, block) > 0
    assert sum(binned[1:]) == BLOCKS_PER_S * len(block)
