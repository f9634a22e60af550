"""The table of options: every key, how it is read, its default and what it is for.

A field is a row: `chat.users` is the TOML key, ASYNCLOAD_CHAT_USERS the variable, --asyncload-chat-users the flag, and
`settings.chat.users` the typed value. Durations are float seconds, sizes int bytes, percentages float percent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, overload

from asyncload_lib.units import (
    REDIS_SCHEMES,
    Kind,
    choice,
    choices,
    directory,
    duration,
    flag,
    headers,
    number,
    percentage,
    size,
    text,
    texts,
    url,
    url_path,
    whole,
)
from asyncload_lib.vm_list import Vm, vms

__all__ = ["Option", "Options", "option_rows"]

T = TypeVar("T")
TomlValue = str | int | float | bool | Sequence[str]

SCENARIOS = ("chat", "redis", "mixed", "vm_health")

TOKEN = text(r"[!-~]{1,256}", "1 to 256 printable characters without space")
# Keys are found again by prefix: a glob character in it would match the keys of somebody else.
KEY_PREFIX = text(r"[\w:./-]{1,64}", "1 to 64 of letters, digits and _ : . / -")
CRITERIA = texts(";", 'a list of criteria, such as ["chat p95 < 2 s"]; on one line, separated by ";"')
PATH = directory()
HTTP = url("http", "https", is_base=True)


@dataclass(frozen=True, slots=True)
class Option:
    """One row: its key, its kind, its default as TOML writes it, and the three spellings of its name."""

    key: str
    kind: Kind[Any]
    default: TomlValue | None
    help: str
    secret: bool = False
    shared: bool = True
    """Whether all processes of a run must have the same value: not a path on one machine, nor what only the process
    that directs the run reads."""

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return "ASYNCLOAD_" + self.key.replace(".", "_").upper()

    @property
    def flag(self) -> str:
        """The flag of the `locust` command."""
        return "--asyncload-" + self.key.replace(".", "-").replace("_", "-")

    @property
    def dest(self) -> str:
        """The attribute under which an argparse namespace keeps the flag's value."""
        return self.flag[2:].replace("-", "_")


@overload
def row(kind: Kind[T], default: None, help: str, **flags: bool) -> T | None: ...
@overload
def row(kind: Kind[T], default: TomlValue, help: str, **flags: bool) -> T: ...
def row(kind: Kind[T], default: TomlValue | None, help: str, **flags: bool) -> T | None:
    """Declare an option as a dataclass field; `flags`: those of `Option`."""
    value = None if default is None else kind.check(default)
    return field(default=value, metadata={"row": Option("", kind, default, help, **flags)})


@dataclass(frozen=True, slots=True)
class Chat:
    """Chat traffic."""

    users: int = row(whole(1), 50, "users of the burst and of the sustained phase", shared=False)
    few_users: int = row(whole(1), 5, "users of the phase that shows the latency under light load", shared=False)
    sustain: float = row(
        duration(0, 86_400), "15s", "length of each of the phases few and sustained; 0 leaves both out", shared=False
    )
    path: str = row(url_path(), "/api/chat", "where a message is posted")
    stream_path: str = row(url_path(), "/api/chat/stream", "where a message is posted to get a streamed answer")
    headers: tuple[str, ...] = row(headers(), [], "headers of every message, such as a login", secret=True)
    message_field: str = row(choice("message", "content"), "message", "name of the field that carries the message")
    timeout: float = row(duration(0.001, 3600), "30s", "how long to wait for an answer", shared=False)
    think_median: float = row(duration(0, 3600), "1s", "median time a user thinks between two messages")
    message_median: int = row(whole(1, 1000), 80, "median length of a message in characters; none is longer than 4000")
    turns_mean: float = row(number(1, 1000), 4, "mean number of messages in a conversation")


@dataclass(frozen=True, slots=True)
class Redis:
    """Redis operations."""

    url: str | None = row(url(*REDIS_SCHEMES), None, "the Redis under test; if no address at all is set, the demo's")
    operations: int = row(whole(1), 100, "concurrent operations of the redis scenario")
    mode: str = row(choice("pool", "multiplexed"), "pool", "multiplexed: all users' commands share a few pipelines")
    max_connections: int = row(whole(1, 10_000), 100, "size of the connection pool")
    timeout: float = row(duration(0.001, 3600), "5s", "how long to wait for a connection or an answer")
    key_prefix: str = row(KEY_PREFIX, "asyncload:", "prefix of every written key")
    value_bytes: int = row(whole(1, 16_777_216), 256, "size of a value in bytes")
    ttl: float = row(duration(1, 86_400), "60s", "time after which a written key expires")


@dataclass(frozen=True, slots=True)
class Files:
    """File operations."""

    operations: int = row(whole(1, 100_000), 25, "concurrent file operations")
    directory: Path | None = row(PATH, None, "where files are written; without it, a temporary one", shared=False)  # noqa: RUF009
    bytes: int = row(size(1, 2**30), "64KiB", "size of a file")
    max_bytes: int = row(size(1, 2**40), "256MiB", "most space that all files together may take at one time")


@dataclass(frozen=True, slots=True)
class Mixed:
    """Files and Redis at the same time."""

    redis_operations: int = row(whole(1, 100_000), 25, "Redis operations that run alongside the file operations")


@dataclass(frozen=True, slots=True)
class VmHealth:
    """Health checks of the machines in `vms`."""

    timeout: float = row(duration(0.001, 3600), "5s", "how long to wait for a machine before it counts as down")


@dataclass(frozen=True, slots=True)
class Loop:
    """How event loops are watched."""

    limit: float = row(duration(0.005, 60), "10ms", "a stall of at least this length counts as a blocked loop")
    period: float = row(duration(0.001, 10), "3ms", "time between two heartbeats; at most loop.limit")
    probe_path: str = row(url_path(), "/asyncload/loop", "where the target mounts the loop probe", shared=False)
    probe_token: str | None = row(
        TOKEN, None, "token that the probe expects in X-Asyncload-Token", secret=True, shared=False
    )
    witness_path: str = row(
        url_path(), "/api/health", "endpoint of the check requests; it should do nothing", shared=False
    )
    witness_rate: float = row(number(1, 1000), 50, "check requests per second to loop.witness_path", shared=False)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The blocking service that the improvement is measured against."""

    enabled: bool = row(flag(), True, "run the blocking baseline of every scenario", shared=False)
    host: str | None = row(HTTP, None, "the unconverted, blocking service; the demo has its own", shared=False)


@dataclass(frozen=True, slots=True)
class Demo:
    """The embedded target, used when no host is given."""

    mode: str = row(
        choice("async", "blocking"),
        "async",
        "blocking: its backend blocks its loop, so the run must fail",
        shared=False,
    )
    model_time: float = row(duration(0, 60), "200ms", "simulated time of a model for one answer", shared=False)
    network_delay: float = row(duration(0, 1), "5ms", "simulated network delay to Redis, each way", shared=False)
    vm_delay: float = row(duration(0, 60), "20ms", "simulated time of one health check", shared=False)


@dataclass(frozen=True, slots=True)
class Generator:
    """Limits of the load generator itself; beyond them the run is invalid."""

    max_cpu: float = row(percentage(1, 100), 90, "CPU of one generator process", shared=False)
    max_loop_lag: float = row(duration(0.001, 60), "100ms", "p99 lag of the loop that runs the users", shared=False)
    max_hub_lag: float = row(duration(0.001, 60), "500ms", "p99 lag of Locust's own loop", shared=False)
    max_send_delay: float = row(duration(0.001, 60), "200ms", "p99 delay between intended and real start", shared=False)


@dataclass(frozen=True, slots=True)
class Options:
    """All options; a field that is itself a dataclass is a TOML table."""

    out: Path = row(PATH, "reports/performance", "where results and reports are written", shared=False)  # noqa: RUF009
    seed: int = row(whole(0, 2**63 - 1), 1, "seed of messages, think times and written data")
    host: str | None = row(
        HTTP, None, "the service under test, as Locust's -H; if no address at all is set, the demo", shared=False
    )
    scenarios: tuple[str, ...] = row(
        choices(*SCENARIOS), [*SCENARIOS], "scenarios of the suite, in this order", shared=False
    )
    stop_timeout: float = row(
        duration(0, 3600), "10s", "how long running operations have to finish after a phase", shared=False
    )
    criteria: tuple[str, ...] = row(
        CRITERIA,
        [],
        "your own; an upper or lower limit replaces the default one on the same subject and metric",
        shared=False,
    )
    criteria_defaults: bool = row(flag(), True, "apply the default criteria", shared=False)
    vms: tuple[Vm, ...] = row(
        vms(), [], "machines whose health is checked; if no address at all is set, the demo's six"
    )
    chat: Chat = Chat()
    redis: Redis = Redis()
    files: Files = Files()
    mixed: Mixed = Mixed()
    vm_health: VmHealth = VmHealth()
    loop: Loop = Loop()
    baseline: Baseline = Baseline()
    demo: Demo = Demo()
    generator: Generator = Generator()


def option_rows(table: Any = Options, prefix: str = "") -> Iterator[Option]:
    """Yield every row in the order of the fields."""
    for column in fields(table):
        if is_dataclass(column.default):
            yield from option_rows(column.default, f"{column.name}.")
        elif "row" in column.metadata:
            declared: Option = column.metadata["row"]
            yield replace(declared, key=prefix + column.name)
