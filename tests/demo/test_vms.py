import json
import time

import redis

from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.demo.vms import HTTP_VMS
from tests.demo.conftest import NETWORK_DELAY_S
from tests.demo.web import ask


def test_there_are_six_vms_in_the_order_of_the_report(stack: DemoStack) -> None:
    names = [vm["name"] for vm in stack.vms]
    assert names == ["Main", "Frontend", "NPU", "Redis", "AI-Stack", "Browser"]
    assert [vm["name"] for vm in stack.vms if vm["kind"] == "redis"] == ["Redis"]
    assert len({vm["url"] for vm in stack.vms}) == 6


def test_each_http_vm_answers_for_itself_after_its_own_delay(stack: DemoStack) -> None:
    assert len({factor for _, factor in HTTP_VMS.values()}) == len(HTTP_VMS)
    for vm in stack.vms:
        if vm["kind"] == "http":
            began = time.perf_counter()
            status, body, _ = ask("GET", vm["url"])
            took_s = time.perf_counter() - began
            assert (status, json.loads(body)) == (200, {"status": "healthy", "vm": vm["name"]})
            # The loop's timers count milliseconds.
            assert took_s >= stack.simulated["vm_delay"] * HTTP_VMS[vm["name"]][1] - 0.002


def test_the_redis_vm_answers_through_the_delay(stack: DemoStack) -> None:
    url = next(vm["url"] for vm in stack.vms if vm["kind"] == "redis")
    assert url == stack.redis_url
    with redis.Redis.from_url(url) as client:
        client.ping()
        began = time.perf_counter()
        assert client.ping()
        assert time.perf_counter() - began >= 2 * NETWORK_DELAY_S


def test_another_path_of_a_vm_is_not_found(stack: DemoStack) -> None:
    url = next(vm["url"] for vm in stack.vms if vm["name"] == "NPU")
    assert ask("GET", url + "/elsewhere")[0] == 404
