"""The four scenarios with their baselines: `make loadtest`, or `locust -f locustfiles/suite.py --headless`."""

from asyncload_lib.suite import (
    ChatBurst,
    ChatSustained,
    FileOperation,
    MixedBaseline,
    RedisBaseline,
    RedisOperation,
    Suite,
    VmBaseline,
    VmCheck,
)

__all__ = [
    "ChatBurst",
    "ChatSustained",
    "FileOperation",
    "MixedBaseline",
    "RedisBaseline",
    "RedisOperation",
    "Suite",
    "VmBaseline",
    "VmCheck",
]
