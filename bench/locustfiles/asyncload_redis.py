"""SET with expiry, GET, compare, again and again, by asyncload's own RedisUser."""

from locust import constant

from asyncload_lib import RedisUser


class Redis(RedisUser):
    wait_time = constant(0)
