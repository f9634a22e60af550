"""Where the load goes when nothing is configured."""

import pytest
from locust import FastHttpUser, HttpUser, User, task
from locust.env import Environment

from asyncload_lib.errors import ConfigurationError
from asyncload_lib.run.target_source import TargetSource
from asyncload_lib.settings import Settings, from_sources
from asyncload_lib.target import Target
from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.files import FileUser
from asyncload_lib.users.http import AsyncHttpUser
from asyncload_lib.users.redis import RedisUser
from asyncload_lib.users.vms import VmHealthUser
from asyncload_lib.verdict.grammar import problems
from tests.users.swarm import derived


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


def test_a_run_of_users_that_were_picked_and_do_not_load_the_demo_has_no_target() -> None:
    environment = Environment(user_classes=[RedisUser, FileUser])
    source = TargetSource(environment, Settings())
    source._embedded = Target(host="http://127.0.0.1:1", embedded=True)
    environment.host = source._embedded.host  # as the plugin sets it
    assert source.aimed_at() == (source._embedded, "")
    environment.user_classes = [FileUser]
    assert source.aimed_at() == (source.configured, "")
