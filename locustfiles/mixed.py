"""Files and Redis at the same time."""

from locust import between

from asyncload_lib import FileUser, RedisUser


class File(FileUser):
    wait_time = between(0.2, 0.6)


class Redis(RedisUser):
    wait_time = between(0.05, 0.15)
