"""Clients of a pooled async Redis manager: SET with expiry, GET, compare."""

from locust import between

from asyncload_lib import RedisUser


class Redis(RedisUser):
    wait_time = between(0.05, 0.15)
