"""SET with expiry, GET, compare, again and again: sync redis-py on greenlets, events fired as in Locust's guide."""

import itertools
import os
import secrets
import time

import redis
from locust import User, constant, task

NUMBERS = itertools.count(1)
CLIENT = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"], max_connections=1000)


class Redis(User):
    wait_time = constant(0)

    @task
    def set_and_get(self) -> None:
        key, value = f"bench:{next(NUMBERS)}", secrets.token_hex(128).encode()
        begun, error = time.perf_counter(), None
        try:
            CLIENT.set(key, value, px=60_000)
            if CLIENT.get(key) != value:
                raise ValueError("the value read is not the value written")
        except (redis.RedisError, ValueError) as exception:
            error = exception
        self.environment.events.request.fire(
            request_type="REDIS",
            name="set+get",
            response_time=(time.perf_counter() - begun) * 1e3,
            response_length=len(value),
            exception=error,
        )
