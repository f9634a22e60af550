"""Users that do nothing: what a FastHttpUser costs while it waits. BENCH_OUT: where the figures go."""

import gevent
from locust import FastHttpUser, constant, task

from bench.idle import watch

arrived = watch()


class Idle(FastHttpUser):
    wait_time = constant(1000)

    @task
    def nothing(self) -> None:
        arrived()
        gevent.sleep(1000)
