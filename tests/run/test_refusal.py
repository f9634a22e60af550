"""What a run is asked for and cannot do, found from its command line before anything is sent.

That such a run ends with its own exit code and one line for each problem is shown by real runs in test_endings and
test_target.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from locust import User, tag, task
from locust.argument_parser import get_parser
from locust.env import Environment

from asyncload_lib import AsyncUser, ChatUser, FileUser, RedisUser, suite
from asyncload_lib.errors import ConfigurationError
from asyncload_lib.run import command_line
from asyncload_lib.run.director import Director
from asyncload_lib.run.target_source import TargetSource
from tests.logged_process import OF_OTHERS

Refusals = Callable[..., list[str]]


class Chat(ChatUser):
    pass


class File(FileUser):
    pass


class Redis(RedisUser):
    pass


def tagged() -> list[type[User]]:
    """Return two user classes of which one has tags; new ones, for what is left out at start is taken from them."""

    class Tagged(AsyncUser):
        @tag("slow")
        @task
        async def work(self) -> None: ...

    class Plain(AsyncUser):
        @task
        async def work(self) -> None: ...

    return [Tagged, Plain]


@pytest.fixture(name="refusals")
def asked_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """Return a function that gives what keeps a run with these words on its command line from being begun.

    `of`: its user classes; without any it is a run of the suite. What can begin has no refusals.
    """
    for name in [name for name in os.environ if name.startswith(OF_OTHERS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASYNCLOAD_OUT", str(tmp_path / "reports"))
    monkeypatch.setattr(command_line, "_parsers", [])
    monkeypatch.setattr(TargetSource, "start", lambda *_, **__: None)

    def refusals(*words: str, of: list[type[User]] | None = None, **variables: str) -> list[str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        options = get_parser(default_config_files=[]).parse_args(["--headless", *words])
        director = Director.__new__(Director)
        director.environment = Environment(
            parsed_options=options,
            host=options.host,
            user_classes=of or [suite.ChatBurst, suite.RedisOperation],
            shape_class=None if of else suite.Suite(),  # type: ignore[no-untyped-call]
        )
        director._starts_by_itself = True
        try:
            director.settings = command_line.settings_of(director.environment)
            director._source = TargetSource(director.environment, director.settings)
            director.find_target()
        except ConfigurationError as error:
            return list(error.problems)
        return []

    return refusals


@pytest.mark.parametrize("of", [[Chat], [File, Redis], None], ids=["chat", "mixed", "suite"])
def test_what_can_be_done_is_not_refused(of: list[type[User]] | None, refusals: Refusals) -> None:
    assert refusals("-u", "5", "-r", "5", "-t", "4s", of=of) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tags", "fast"), "--tags fast leaves Tagged, Plain without a task; the known tags are slow"),
        (("--exclude-tags", "slow"), "--exclude-tags slow leaves Tagged without a task; the known tags are slow"),
    ],
)
def test_users_that_tags_leave_without_a_task_are_refused(
    words: tuple[str, ...], says: str, refusals: Refusals
) -> None:
    assert refusals(*words, of=tagged()) == [says]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-u", "0"), "the number of users (-u) is 0; allowed is 1 or more"),
        (("-u", "5", "-t", "4s"), "5 users at 1 per second (--spawn-rate) take 4 s to start, but the run ends after 4"),
        (("-u", "3", "-r", "0.5", "-t", "4s"), "3 users at 0.5 per second (--spawn-rate) take 4 s to start, but the "),
    ],
)
def test_a_run_that_would_be_over_before_its_users_are_there_is_refused(
    words: tuple[str, ...], says: str, refusals: Refusals
) -> None:
    (told,) = refusals(*words, of=[Chat])
    assert told.startswith(says)


def test_a_ramp_that_ends_before_the_run_is_not_refused(refusals: Refusals) -> None:
    assert refusals("-u", "5", "-t", "5s", of=[Chat]) == []
    assert refusals("-u", "3", "-r", "0.5", "-t", "5s", of=[Chat]) == []


@pytest.mark.parametrize(
    ("words", "of", "allowed"),
    [
        ((), [Chat], "chat, run, target, generator"),
        (("--asyncload-scenarios", "chat"), None, "chat, target, generator"),
    ],
)
def test_criteria_on_the_command_line_for_what_is_not_run_are_refused(
    words: tuple[str, ...], of: list[type[User]] | None, allowed: str, refusals: Refusals
) -> None:
    (told,) = refusals(*words, "--asyncload-criteria", "redis p95 < 1 us", of=of)
    assert f"about redis, which is not part of this run; allowed is {allowed}" in told


@pytest.mark.parametrize(
    ("host", "allowed"), [("notaurl", "a URL with http:// or https://"), ("http://127.0.0.1:99999", "1 to 65535")]
)
@pytest.mark.parametrize("of", [[Chat], None], ids=["chat", "suite"])
def test_a_host_that_is_no_url_is_refused(
    host: str, allowed: str, of: list[type[User]] | None, refusals: Refusals
) -> None:
    (told,) = refusals("-H", host, "--asyncload-scenarios", "chat", of=of)
    assert [word for word in ("given to Locust (--host)", repr(host), allowed) if word not in told] == []


@pytest.mark.parametrize("flag", ["--host", "--asyncload-host"])
def test_a_host_that_is_empty_is_refused(flag: str, refusals: Refusals) -> None:
    assert refusals(flag, "", of=[Chat]) == [
        f"host on the command line ({flag}) is empty: give it a value or leave it out"
    ]


@pytest.mark.parametrize("of", [[Chat], None], ids=["chat", "suite"])
def test_a_baseline_without_a_host_is_refused(of: list[type[User]] | None, refusals: Refusals) -> None:
    (told,) = refusals(of=of, ASYNCLOAD_BASELINE_HOST="http://127.0.0.1:9")
    assert told.startswith("baseline.host is set, but host is not: ")


def test_a_directory_for_reports_that_cannot_be_written_to_is_refused(tmp_path: Path, refusals: Refusals) -> None:
    (tmp_path / "file").write_text("in the way")
    out = str(tmp_path / "file" / "reports")
    told = f"out is {out}, where nothing can be written: Not a directory"
    assert refusals("--asyncload-out", out, of=[Chat]) == [told]


def test_users_without_an_address_are_refused(refusals: Refusals) -> None:
    told = "redis.url is not set, but users of Redis need it: set it, or run the other users only: locust -f FILE File"
    assert refusals("-H", "http://127.0.0.1:9", of=[File, Redis]) == [told]


@pytest.mark.parametrize(
    ("variable", "address", "scenario"),
    [
        ("ASYNCLOAD_HOST", "http://127.0.0.1:9", "chat"),
        ("ASYNCLOAD_REDIS_URL", "redis://127.0.0.1:9/0", "redis"),
        ("ASYNCLOAD_VMS", "Main=http://127.0.0.1:9/health", "vm_health"),
    ],
)
def test_what_the_command_line_asks_of_a_demo_that_is_not_loaded_is_refused(
    variable: str, address: str, scenario: str, refusals: Refusals
) -> None:
    demo = ("--asyncload-demo-mode", "blocking", "--asyncload-demo-model-time", "1s")
    told = refusals(*demo, "--asyncload-scenarios", scenario, **{variable: address})
    assert [line.partition(" applies only to the embedded demo, ")[0] for line in told] == [
        "demo.mode on the command line (--asyncload-demo-mode)",
        "demo.model_time on the command line (--asyncload-demo-model-time)",
    ]
