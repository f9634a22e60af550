"""The table of options, the order of its sources, and what every mistake is answered with."""

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncload_lib.errors import ConfigurationError
from asyncload_lib.options import Option
from asyncload_lib.settings import CONFIG, OPTIONS, Settings, add_arguments, from_sources
from asyncload_lib.vm_list import Vm

EXAMPLE = Path(__file__).parents[1] / "asyncload.example.toml"


def load(
    tmp_path: Path, toml: str = "", env: dict[str, str] | None = None, cli: dict[str, str] | None = None
) -> Settings:
    config = tmp_path / "given.toml"
    config.write_text(toml, "utf-8")
    flags = {OPTIONS[key].dest: value for key, value in (cli or {}).items()}
    variables = {OPTIONS[key].variable: value for key, value in (env or {}).items()}
    return from_sources(flags, variables, config)


def problems(tmp_path: Path, toml: str = "", **sources: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, toml, **sources)
    return caught.value.problems


# --- no setting is dead ----------------------------------------------------------------------------------------------


def test_every_setting_is_read_somewhere() -> None:
    package = EXAMPLE.parent / "asyncload_lib"
    declared = {package / name for name in ("options.py", "settings.py", "members.py")}
    source = "\n".join(path.read_text("utf-8") for path in sorted(package.rglob("*.py")) if path not in declared)

    def is_read(key: str) -> bool:
        table, _, leaf = key.rpartition(".")
        tables = table or "settings", *(["options"] if table == "redis" else [])  # `options = self.settings.redis`
        read = [*(rf"{name}\.{leaf}" for name in tables), rf"{leaf}=settings\.{table}"]
        return re.search(rf"\b(?:{'|'.join(read)})\b", source) is not None

    assert [key for key in OPTIONS if not is_read(key)] == []


# --- layering: command line beats environment beats file beats default -----------------------------------------------

FILE_USERS = "[chat]\nusers = 20"
LAYERS = [
    # toml            environment             command line           effective, or what the refusal names   origin
    ("", {}, {}, 50, "default"),
    (FILE_USERS, {}, {}, 20, "file"),
    ("chat.users = 20", {}, {}, 20, "file"),
    ("", {"chat.users": "30"}, {}, 30, "environment"),
    (FILE_USERS, {"chat.users": "30"}, {}, 30, "environment"),
    ("", {}, {"chat.users": "40"}, 40, "command line"),
    (FILE_USERS, {}, {"chat.users": "40"}, 40, "command line"),
    ("", {"chat.users": "30"}, {"chat.users": "40"}, 40, "command line"),
    (FILE_USERS, {"chat.users": "30"}, {"chat.users": "40"}, 40, "command line"),
    # an empty variable is what a shell makes of nothing
    (FILE_USERS, {"chat.users": ""}, {}, 20, "file"),
    # a mistake is a mistake, even where a stronger source would hide it
    ("[chat]\nusers = 'x'", {"chat.users": "30"}, {}, "given.toml is 'x'", None),
    (FILE_USERS, {"chat.users": "thirty"}, {"chat.users": "40"}, "(ASYNCLOAD_CHAT_USERS) is 'thirty'", None),
    (FILE_USERS, {}, {"chat.users": "-1"}, "(--asyncload-chat-users) is '-1'", None),
]


@pytest.mark.parametrize(("toml", "env", "cli", "effective", "origin"), LAYERS)
def test_stronger_source_wins(
    tmp_path: Path, toml: str, env: dict[str, str], cli: dict[str, str], effective: int | str, origin: str | None
) -> None:
    if origin is None:
        (problem,) = problems(tmp_path, toml, env=env, cli=cli)
        assert problem.startswith("chat.users ")
        assert str(effective) in problem
        assert "a whole number from 1 to 1000000" in problem
    else:
        settings = load(tmp_path, toml, env, cli)
        assert settings.chat.users == settings["chat.users"] == effective
        assert settings.origin("chat.users") == origin


@pytest.mark.parametrize("option", [OPTIONS["chat.users"], CONFIG])
@pytest.mark.parametrize("text", ["", " "])
def test_a_flag_that_is_empty_is_refused(option: Option, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_sources({option.dest: text}, {})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{option.key} on the command line ({option.flag}) is empty: ")


def test_config_file_is_named_by_flag_then_variable(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        (tmp_path / name).write_text(f"seed = {seed}")
    flag, variable = {CONFIG.dest: str(tmp_path / "b")}, {CONFIG.variable: str(tmp_path / "a")}
    assert from_sources({}, variable).seed == 1
    assert from_sources(flag, variable).seed == 2
    assert from_sources(flag, variable, tmp_path / "c").seed == 3


# --- values ----------------------------------------------------------------------------------------------------------

VALUES = [
    ("chat.sustain", "1m", 60.0),
    ("chat.sustain", "0", 0.0),
    ("chat.sustain", "1.5 h", 5400.0),
    ("loop.limit", "200 ms", 0.2),
    ("loop.limit", "20000us", 0.02),
    ("files.bytes", "64KiB", 65536),
    ("files.bytes", "2 kB", 2000),
    ("files.bytes", "1", 1),
    ("generator.max_cpu", "75 %", 75.0),
    ("generator.max_cpu", "75", 75.0),
    ("baseline.enabled", "False", False),
    ("baseline.enabled", "true", True),
    ("scenarios", "redis, chat", ("redis", "chat")),
    ("criteria", "chat p95 < 1 s; redis p95 < 2 s", ("chat p95 < 1 s", "redis p95 < 2 s")),
    ("out", "elsewhere/reports", Path("elsewhere/reports")),
    ("redis.url", "rediss://user:pw@cache.internal:6380/1", "rediss://user:pw@cache.internal:6380/1"),
    ("redis.url", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("redis.url", "unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ("redis.url", "redis://h?protocol=2", "redis://h?protocol=2"),
    ("redis.url", "rediss://h/0?ssl_cert_reqs=none&ssl_ca_certs=/a", "rediss://h/0?ssl_cert_reqs=none&ssl_ca_certs=/a"),
    ("host", "http://[::1]:8001", "http://[::1]:8001"),
    ("chat.turns_mean", "2.5", 2.5),
    ("vms", "Main=http://10.0.0.1/health,Cache=redis://10.0.0.2:6379",
     (Vm("Main", "http", "http://10.0.0.1/health"), Vm("Cache", "redis", "redis://10.0.0.2:6379"))),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text", "value"), VALUES)
def test_text_is_read(tmp_path: Path, key: str, text: str, value: object) -> None:
    for source in ("env", "cli"):
        read = load(tmp_path, "", **{source: {key: text}})[key]
        assert read == value
        assert type(read) is type(value)


def test_toml_values_are_read(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        scenarios = ["redis"]
        [chat]
        sustain = 5
        turns_mean = 3
        [files]
        bytes = 1000
        [[vms]]
        name = "Cache"
        url = "rediss://10.0.0.2"
        """,
    )
    assert settings.scenarios == ("redis",)
    assert settings.chat.sustain == 5.0
    assert settings.chat.turns_mean == 3.0
    assert settings.files.bytes == 1000
    assert settings.vms == (Vm("Cache", "redis", "rediss://10.0.0.2"),)


WRITTEN = [
    ("chat.sustain", 0.0, "0s"),
    ("chat.sustain", 5400.0, "5400s"),
    ("loop.limit", 0.0105, "10.5ms"),
    ("loop.period", 0.00125, "1.25ms"),
    ("loop.period", 0.0005, "500us"),
    ("files.bytes", 1, "1B"),
    ("files.bytes", 2_000_000, "2MB"),
    ("files.bytes", 65537, "65537B"),
    ("generator.max_cpu", 75.0, "75 %"),
    ("chat.turns_mean", 2.5, "2.5"),
    ("baseline.enabled", False, "false"),
]


@pytest.mark.parametrize(("key", "value", "text"), WRITTEN)
def test_a_value_is_written_as_a_user_would(key: str, value: object, text: str) -> None:
    assert OPTIONS[key].kind.written(value) == text


def test_a_default_is_written_as_it_is_declared() -> None:
    for option in OPTIONS.values():
        if isinstance(option.default, str):
            assert option.kind.written(option.kind.check(option.default)) == option.default, option.key


REFUSED = [
    # toml                                                  what the one sentence must name
    ("chat.users = 'fifty'", ["chat.users", "given.toml", "'fifty'", "a whole number"]),
    ("chat.users = '50'", ["chat.users", "'50'", "a whole number"]),
    ("chat.users = 5.0", ["chat.users", "5.0"]),
    ("chat.users = true", ["chat.users", "True"]),
    ("chat.users = 0", ["chat.users", "from 1"]),
    ("chat.users = 10000000", ["chat.users", "to 1000000"]),
    ("chat.timeout = nan", ["chat.timeout", "nan"]),
    ("chat.timeout = inf", ["chat.timeout", "inf"]),
    ("chat.timeout = -1", ["chat.timeout", "-1"]),
    ("chat.timeout = '10 parsecs'", ["chat.timeout", "parsecs", '"200 ms"']),
    ("chat.timeout = true", ["chat.timeout", "True"]),
    ("chat.timeout = [1]", ["chat.timeout", "[1]"]),
    ("chat.timeout = 1979-05-27", ["chat.timeout", "1979"]),
    ("files.bytes = '64KB/s'", ["files.bytes", "64KB/s"]),
    ("files.bytes = 0.5", ["files.bytes", "0.5"]),
    ("generator.max_cpu = 101", ["generator.max_cpu", "101", "100"]),
    ("generator.max_cpu = '90 ms'", ["generator.max_cpu", "90 ms"]),
    ("baseline.enabled = 'yes'", ["baseline.enabled", "true or false"]),
    ("host = 'ftp://x'", ["host", "ftp://x", "http://"]),
    ("host = 'x:8001'", ["host", "x:8001"]),
    ("host = 'http://'", ["host", "http://"]),
    ("host = 'http://h:99999'", ["host", "'http://h:99999'", "port", "1 to 65535"]),
    ("host = 'http://h:0'", ["host", "'http://h:0'", "port", "1 to 65535"]),
    ("host = 'http://h:http'", ["host", "'http://h:http'", "port", "1 to 65535"]),
    ("redis.url = 'redis://h:99999/0'", ["redis.url", "port", "1 to 65535"]),
    ("host = 'http://h/pre?tok=x'", ["host", "'http://h/pre?tok=x'", "query"]),
    ("baseline.host = 'http://h#part'", ["baseline.host", "'http://h#part'", "fragment"]),
    ("redis.url = 'redis://h/abc'", ["redis.url", "database", "'abc'", "such as /0"]),
    ("redis.url = 'redis://h/0/1'", ["redis.url", "database", "'0/1'"]),
    ("redis.url = 'redis://h/0?foo=1'", ["redis.url", "'foo'", "there are db, protocol"]),
    ("redis.url = 'redis://h?ssl_cert_reqs=none'", ["redis.url", "'ssl_cert_reqs'", "there are db, protocol"]),
    ("redis.url = 'rediss://h?ssl_cert_reqs=never'", ["redis.url", "'never'", "allowed is none, optional or required"]),
    ("redis.url = 'redis://h?socket_timeout=x'", ["redis.url", "'socket_timeout'", "there are db, protocol"]),
    ("redis.url = 'unix:///run/redis.sock?db='", ["redis.url", "db", "''", "allowed is a number"]),
    ("vms = [{name = 'A', url = 'redis://h/x'}]", ["vms", "machine 1", "database", "'x'"]),
    ("host = 'http://a b'", ["host", "a b"]),
    ("host = \"http://a\\nb\"", ["host", "http://a\\nb"]),
    ("host = 'http://[::1'", ["host", "http://[::1"]),
    ("redis.url = 'http://h'", ["redis.url", "redis://"]),
    ("chat.path = 'api'", ["chat.path", "api"]),
    ("chat.path = '//elsewhere/api'", ["chat.path", "//elsewhere"]),
    ("chat.headers = 'X-One: 1'", ["chat.headers", "***", "a list of headers"]),
    ("chat.headers = ['no header']", ["chat.headers", "***", "a list of headers"]),
    ("chat.headers = [\"X-One: 1\\r\\nX-Two: 2\"]", ["chat.headers", "***", "a list of headers"]),
    ("chat.headers = ['Host: a', 'X: 1', 'x: 2']", ["chat.headers", "host, x: give each header once, and none of"]),
    ("chat.message_field = 'text'", ["chat.message_field", "message, content"]),
    ("redis.key_prefix = 'a*'", ["redis.key_prefix", "a*"]),
    ("redis.key_prefix = ''", ["redis.key_prefix", "''"]),
    ("scenarios = ['chat', 'foo']", ["scenarios", "'foo'", "chat, redis, mixed, vm_health"]),
    ("scenarios = []", ["scenarios", "at least one"]),
    ("scenarios = ['chat', 'chat']", ["scenarios", "twice"]),
    ("scenarios = 'chat'", ["scenarios", "a list"]),
    ("criteria = 'chat p95 < 1 s'", ["criteria", "a list"]),
    ("criteria = [1]", ["criteria", "[1]"]),
    ("out = ''", ["out", "a path"]),
    ("chat = 3", ["chat ", "a table [chat]"]),
    ("chat.user = 3", ["chat.user", "did you mean chat.users?"]),
    ("chatt.users = 3", ["chatt", "did you mean chat"]),
    ("sed = 3", ["'sed'", "did you mean seed?"]),
    ("vms = 'x'", ["vms", "an array of at most 100 tables"]),
    ("vms = [" + "{name = 'A', url = 'http://a'}," * 101 + "]", ["vms", "an array of at most 100 tables"]),
    ("vms = [{name = 'A', url = 'http://a'}, {name = 'A', url = 'http://b'}]", ["vms", "'A'", "twice"]),
    ("vms = [{name = 'A'}]", ["vms", "machine 1", "url is missing"]),
    ("vms = [{name = 'A', url = 'http://a:99999'}]", ["vms", "machine 1", "'http://a:99999'", "port", "1 to 65535"]),
    ("vms = [{url = 'http://a'}]", ["vms", "machine 1", "name is missing"]),
    ("vms = [{name = 'A', url = 'http://a', port = 1}]", ["vms", "machine 1", "'port'"]),
    ("vms = [{name = 'A', url = 'http://a', kind = 'redis'}]", ["vms", "machine 1", "url", "redis://"]),
    ("loop = {limit = '5ms', period = '6ms'}", ["loop.period is 6ms", "loop.limit (5ms)"]),
    ("loop = {limit = '4ms'}", ["loop.limit", "4ms", "from 5ms to 60s"]),
    ("chat = {users = 5, few_users = 6}", ["chat.few_users", "6", "5"]),
    ("files.operations = 100000", ["files.operations", "is 6250MiB", "files.max_bytes (256MiB)"]),
    ("files.max_bytes = 0", ["files.max_bytes", "from 1B to 1024GiB"]),
    ("seed = 0x" + "f" * 5000, ["seed", "thousands of digits"]),
    ("seed = 1\nout = x\n", ["given.toml", "not valid TOML", "line 2"]),
    ("seed = 1\nseed = 2", ["given.toml", "not valid TOML"]),
    ("seed = " + "[" * 20_000, ["given.toml", "not valid TOML"]),
    ("seed = " + "1" * 5000, ["given.toml", "not valid TOML"]),
]  # fmt: skip


@pytest.mark.parametrize(("toml", "named"), REFUSED, ids=[row[0][:40] for row in REFUSED])
def test_one_mistake_is_one_sentence(tmp_path: Path, toml: str, named: list[str]) -> None:
    (problem,) = problems(tmp_path, toml)
    assert [word for word in named if word not in problem] == []
    assert "\n" not in problem
    assert len(problem) < 400


@pytest.mark.parametrize(
    "toml",
    [
        "[vms]\nname = 'Redis'\nurl = 'redis://:s3cret@h:6379'",
        "vms = ['Redis=redis://:s3cret@h:6379']",
        "loop = [{probe_token = 's3cret'}]",
        "redis.url = ['redis://:s3cret@h:6379']",
        "redis.url = 'redis://default:8/s3cret@h:6379/0'",
        "redis.url = 'redis://:pa?s3cret@h:6379/0'",
        "redis.url = 'redis://:pa#s3cret@h:6379/0'",
        "redis.url = 'redis://:pa/s3cret@h:6379/0'",
    ],
)
def test_a_mistake_tells_no_secret(tmp_path: Path, toml: str) -> None:
    for problem in problems(tmp_path, toml):
        assert "s3cret" not in problem
        assert "***" in problem


def test_a_machine_without_a_name_tells_no_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_sources({}, {"ASYNCLOAD_VMS": "redis://:pa=s3cret@h"})
    assert "machine 1: name is ''" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_home_directory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    settings = from_sources({}, {"ASYNCLOAD_FILES_DIRECTORY": "~/files", "ASYNCLOAD_OUT": "~"})
    assert (settings.files.directory, settings.out) == (Path("/home/me/files"), Path("/home/me"))
    with pytest.raises(ConfigurationError, match=r"out in the environment .* is '~nobody-of-this-name/x'"):
        from_sources({}, {"ASYNCLOAD_OUT": "~nobody-of-this-name/x"})


def test_every_problem_of_every_source_comes_together(tmp_path: Path) -> None:
    config = tmp_path / "given.toml"
    config.write_text("seed = -1\nfoo = 1\n[redis]\nttl = 'x'\n")
    flags = {OPTIONS["host"].dest: "nowhere", "asyncload_nonsense": "1", "users": "7"}
    with pytest.raises(ConfigurationError) as caught:
        from_sources(flags, {"ASYNCLOAD_CHAT_USER": "5", "ASYNCLOAD_OUT": "x", "PATH": "/bin"}, config)
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    for word in ("seed", "'foo'", "redis.ttl", "host", "ASYNCLOAD_CHAT_USERS?", "asyncload_nonsense"):
        assert word in text


@pytest.mark.parametrize("path", ["missing.toml", ".", "latin.toml"])
def test_unreadable_file_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "latin.toml").write_bytes(b'out = "\xe4"')
    with pytest.raises(ConfigurationError, match=re.escape(str(tmp_path / path))) as caught:
        from_sources({CONFIG.dest: str(tmp_path / path)}, {})
    assert len(caught.value.problems) == 1


def test_criteria_are_checked_by_whom_the_caller_names() -> None:
    asked: list[tuple[Sequence[str], float]] = []

    def check(lines: Sequence[str], loop_limit_s: float) -> list[str]:
        asked.append((lines, loop_limit_s))
        return [f"{line!r} means nothing" for line in lines if "bad" in line]

    flags = {OPTIONS["criteria"].dest: "good; bad 1; bad 2", OPTIONS["loop.limit"].dest: "20ms"}
    with pytest.raises(ConfigurationError) as caught:
        from_sources(flags, {OPTIONS["criteria"].variable: "hidden"}, None, check)
    assert asked == [(("hidden",), 0.02), (("good", "bad 1", "bad 2"), 0.02)]
    assert [problem.rpartition(": ")[2] for problem in caught.value.problems] == [
        "'bad 1' means nothing",
        "'bad 2' means nothing",
    ]
    assert "--asyncload-criteria" in caught.value.problems[0]


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)  # fmt: skip


@given(st.sampled_from(sorted(OPTIONS)), JUNK, st.sampled_from(["file", "text"]))
def test_junk_is_either_read_or_refused_in_one_line(key: str, junk: object, how: str) -> None:
    """Whatever comes: a typed value of the kind that the table promises, or ValueError; nothing else gets out."""
    kind = OPTIONS[key].kind
    try:
        value = kind.check(kind.from_text(str(junk)) if how == "text" else junk)
    except (ValueError, TypeError, OverflowError):
        return
    assert isinstance(value, int | float | str | tuple | Path)
    assert kind.check(junk if how == "file" else kind.from_text(str(junk))) == value


# --- secrets ---------------------------------------------------------------------------------------------------------

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loop.probe_token", SECRET),
        ("redis.url", f"redis://user:{SECRET}@h:6379/0"),
        ("redis.url", f"redis://:{SECRET}@h:6379/0"),
        ("redis.url", f"redis://h:6379/0?password={SECRET}&db=1"),
        ("host", f"https://{SECRET}@h"),
        ("host", f"http://u:a@{SECRET}@h"),
        ("chat.path", f"/api?access_token={SECRET}"),
        ("vms", f"A=redis://:{SECRET}@h"),
    ],
)
def test_secret_is_used_but_never_shown(tmp_path: Path, key: str, value: str) -> None:
    settings = load(tmp_path, env={key: value})
    assert SECRET in str(settings[key])
    shown = str(settings.redacted())
    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loop.probe_token", f"{SECRET} with spaces"),
        ("redis.url", f"redis://:pa#{SECRET}@h:6379/0"),
        ("redis.url", f"redis://:pa/{SECRET}@h:port/0"),
        ("host", f"ftp://u:{SECRET}@h"),
        ("vms", f"A=ftp://u:{SECRET}@h"),
    ],
)
def test_secret_is_not_in_the_refusal(tmp_path: Path, key: str, value: str) -> None:
    (problem,) = problems(tmp_path, cli={key: value})
    assert SECRET not in problem
    assert "***" in problem


# --- fingerprint -----------------------------------------------------------------------------------------------------


def test_fingerprint_is_of_values_not_of_spellings(tmp_path: Path) -> None:
    reference = Settings().fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", reference)
    assert load(tmp_path, "[chat]\nthink_median = '1000 ms'", {"seed": "1"}).fingerprint() == reference


@pytest.mark.parametrize(("key", "value", "changes"), [
    ("seed", "2", True), ("chat.headers", "Cookie: a", True), ("redis.url", "redis://:a@h", True),
    ("vms", "A=http://a", True), ("loop.limit", "20ms", True), ("files.bytes", "1KiB", True),
    ("out", "elsewhere", False), ("scenarios", "redis", False), ("chat.users", "51", False),
    ("criteria", "chat p95 < 1 s", False), ("loop.probe_token", "secret", False), ("demo.mode", "blocking", False),
])  # fmt: skip
def test_fingerprint_changes_with_what_a_worker_reads(tmp_path: Path, key: str, value: str, changes: bool) -> None:
    assert (load(tmp_path, env={key: value}).fingerprint() != Settings().fingerprint()) is changes


def test_fingerprint_tells_two_secrets_apart(tmp_path: Path) -> None:
    one, other = (load(tmp_path, env={"redis.url": f"redis://:{password}@h"}) for password in ("a", "b"))
    assert one.redacted() == other.redacted()
    assert one.fingerprint() != other.fingerprint()


# --- the table and its spellings -------------------------------------------------------------------------------------


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().chat.users = 1  # type: ignore[misc]
    with pytest.raises(KeyError, match=r"did you mean chat\.users"):
        Settings()["chat.user"]


def test_every_option_has_its_own_spellings() -> None:
    for spelling in ("variable", "flag", "dest"):
        assert len({getattr(option, spelling) for option in (CONFIG, *OPTIONS.values())}) == len(OPTIONS) + 1
    assert OPTIONS["redis.url"].variable == "ASYNCLOAD_REDIS_URL"
    assert OPTIONS["redis.url"].flag == "--asyncload-redis-url"
    assert OPTIONS["vm_health.timeout"].flag == "--asyncload-vm-health-timeout"


def test_redacted_has_every_key() -> None:
    assert list(Settings().redacted()) == list(OPTIONS)


def test_flags_of_a_plain_parser_reach_the_settings() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert set(vars(parser.parse_args([])).values()) == {None}
    help_text = parser.format_help()
    assert [option.flag for option in OPTIONS.values() if option.flag not in help_text] == []
    settings = from_sources(vars(parser.parse_args(["--asyncload-chat-users=7", "--asyncload-seed", "3"])), {})
    assert (settings.chat.users, settings.seed) == (7, 3)
    assert settings.origin("seed") == "command line"


def test_a_flag_that_is_given_again_is_refused_and_not_quietly_the_last() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = ["--asyncload-criteria", "chat p95 < 1 s", "--asyncload-seed=1", "--asyncload-criteria", "chat p99 < 2 s"]
    with pytest.raises(ConfigurationError) as caught:
        from_sources(vars(parser.parse_args(given)), {})
    assert str(caught.value) == (
        "criteria is given 2 times on the command line (--asyncload-criteria); "
        "give it once, with several values in one text"
    )


# --- the example file ------------------------------------------------------------------------------------------------

COMMENTED = re.compile(r"^# (\w+ = .*)$", re.MULTILINE)


def test_example_names_the_six_machines() -> None:
    settings = from_sources({}, {}, EXAMPLE)
    assert [(vm.name, vm.kind, vm.url) for vm in settings.vms] == [
        ("Main", "http", "http://172.16.168.20:8001/api/health"),
        ("Frontend", "http", "http://172.16.168.21:5173"),
        ("NPU", "http", "http://172.16.168.22:8081"),
        ("Redis", "redis", "redis://172.16.168.23:6379"),
        ("AI-Stack", "http", "http://172.16.168.24:8080"),
        ("Browser", "http", "http://172.16.168.25:3000"),
    ]
    assert {key for key in OPTIONS if settings.origin(key) == "file"} == {"host", "redis.url", "vms"}


def test_example_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    uncommented = COMMENTED.sub(r"\1", EXAMPLE.read_text("utf-8"))
    settings, defaults = load(tmp_path, uncommented), Settings()
    shown = {key for key in OPTIONS if settings.origin(key) == "file"}
    unset = {key for key in OPTIONS if defaults[key] is None}
    assert set(OPTIONS) - shown == unset - {"host", "redis.url"}
    for key in shown - {"host", "redis.url", "vms"}:
        assert settings[key] == defaults[key], key


def test_example_shows_settings_without_a_default_too(tmp_path: Path) -> None:
    """What is indented in a comment is an example value, and must be allowed."""
    uncommented = re.sub(r"^#     (\w+ = .*)$", r"\1", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    settings = load(tmp_path, uncommented)
    shown = {key for key in OPTIONS if settings.origin(key) == "file"}
    assert shown >= {key for key in OPTIONS if Settings()[key] is None}
