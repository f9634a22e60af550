"""Rounds of health checks: in each, all machines are asked at the same instant."""

from locust import between

from asyncload_lib import VmHealthUser


class VmHealth(VmHealthUser):
    wait_time = between(1, 2)
