"""Where the load goes when nothing is configured."""

import gevent
import pytest
from locust import FastHttpUser, HttpUser, User, task
from locust.env import Environment

from asyncload_lib.errors import ConfigurationError, TargetError
from asyncload_lib.run.target_source import TargetSource
from asyncload_lib.settings import Settings, from_sources
from asyncload_lib.target import Target
from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.chat import ChatUser
from asyncload_lib.users.files import FileUser
from asyncload_lib.users.http import AsyncHttpUser
from asyncload_lib.users.redis import RedisUser
from asyncload_lib.users.vms import VmHealthUser
from asyncload_lib.verdict.grammar import problems
from asyncload_lib.vm_list import Vm
from tests.users.swarm import derived

DEMO = Target(
    host="http://127.0.0.1:1",
    baseline_host="http://127.0.0.1:2",
    redis_url="redis://127.0.0.1:3/0",
    vms=(Vm("Main", "http", "http://127.0.0.1:4/health"),),
    probe_token="its own",
    embedded=True,
    mode="async",
    simulated={"model_time": 0.2},
)
ELSEWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("bases", "is_embedded"),
    [
        ([AsyncHttpUser], True),
        ([HttpUser], True),
        ([FastHttpUser], True),
        ([RedisUser], True),
        ([VmHealthUser], True),
        ([AsyncUser], False),  # of a protocol that we do not know: it was the demo that was watched, and named
        ([User], False),
        ([FileUser], False),
        ([FileUser, RedisUser], True),
    ],
)
def test_the_demo_is_started_for_users_that_need_an_address(bases: list[type[User]], is_embedded: bool) -> None:
    @task
    async def work(self: object) -> None: ...

    @task
    def plain_work(self: object) -> None: ...

    classes = [derived(base, work=work if issubclass(base, AsyncUser) else plain_work) for base in bases]
    for user_class, base in zip(classes, bases, strict=True):
        user_class.__name__ = f"My{base.__name__}"
    environment = Environment(user_classes=classes)
    source = TargetSource(environment, Settings())
    assert (source.is_embedded, source.is_known) == (is_embedded, False)
    environment.host = "http://127.0.0.1:1"
    assert (source.is_embedded, source.is_known) == (False, True)


def test_only_users_of_the_demo_need_no_baseline_of_their_own() -> None:
    settings = from_sources({}, {"ASYNCLOAD_BASELINE_HOST": "http://127.0.0.1:1"}, None, problems)
    TargetSource(Environment(user_classes=[FileUser]), settings).check(())
    with pytest.raises(ConfigurationError, match=r"baseline\.host is set, but host is not"):
        TargetSource(Environment(user_classes=[RedisUser]), settings).check(())


def with_demo(user_classes: list[type[User]], settings: Settings | None = None) -> TargetSource:
    """Return the source of a run in the web UI whose demo is up."""
    source = TargetSource(Environment(user_classes=user_classes), settings or Settings())
    source._embedded = DEMO
    source._environment.host = DEMO.host
    return source


def test_a_run_of_users_that_were_picked_and_do_not_load_the_demo_has_no_target() -> None:
    source = with_demo([RedisUser, FileUser])
    assert source.aim(()) == (DEMO, "")
    source._environment.user_classes = [FileUser]
    assert source.aim(()) == (source.configured, "")


def test_with_another_host_nothing_of_the_demo_is_left() -> None:
    settings = from_sources({}, {"ASYNCLOAD_LOOP_PROBE_TOKEN": "mine"}, None, problems)
    source = with_demo([ChatUser], settings)
    source._environment.host = f"{ELSEWHERE}/"
    assert source.aim(("chat",)) == (Target(host=ELSEWHERE, probe_token="mine"), "")
    assert source._environment.host == ELSEWHERE
    source._environment.host = ""
    assert source.aim(("chat",)) == (DEMO, "")
    assert source._environment.host == DEMO.host


@pytest.mark.parametrize("scenarios", [("chat", "redis", "vm_health"), ()], ids=["suite", "free run"])
def test_a_run_is_refused_whose_other_addresses_were_the_demos(scenarios: tuple[str, ...]) -> None:
    source = with_demo([ChatUser, RedisUser, VmHealthUser])
    assert source.aim(scenarios) == (DEMO, "")
    source._environment.host = ELSEWHERE
    with pytest.raises(ConfigurationError) as refused:
        source.aim(scenarios)
    missing = [problem.partition(" is not set")[0] for problem in refused.value.problems]
    assert missing == ["redis.url", "vms"]


def test_only_a_run_that_loads_the_demo_waits_for_it() -> None:
    source = TargetSource(Environment(user_classes=[ChatUser]), Settings())
    source._starting = gevent.spawn(TargetError, "no redis-server")
    source._environment.host = ELSEWHERE
    assert source.aim(()) == (Target(host=ELSEWHERE), "")
    source._environment.host = ""
    with pytest.raises(TargetError):
        source.aim(())
