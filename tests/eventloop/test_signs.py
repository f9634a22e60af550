"""A request is a sign of life only where it reaches the probe before anything else of its callback can have blocked."""

import json
from pathlib import Path

import pytest

from tests.eventloop.probed import TOKEN, call, read, server

pytestmark = pytest.mark.chance

APP = """
import time
from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from asyncload_lib.eventloop.asgi import Probe

probes = []

def mount(app):
    probes.append(Probe(app, "secret", "/watch", 0.01, 0.003))
    return probes[-1].middleware()

class Outer:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope.get("path") == "/block":
            time.sleep(0.007)  # before the probe
        await self.app(scope, receive, send)

class Plain:
    def __init__(self, app):
        self.app = app

    def __call__(self, scope, receive, send):
        return self.app(scope, receive, send)

class Dispatching(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)

def framework(*outer):
    api = FastAPI()

    @api.get("/")
    async def home():
        return {}

    @api.get("/signs")
    async def signs():
        return [probe._served[0].gives_signs for probe in probes]

    @api.get("/block")
    async def block():
        time.sleep(0.007)  # behind the probe
        return {}

    api.add_middleware(mount)
    for middleware in outer:
        api.add_middleware(middleware)
    return api
"""


def served(last: str) -> str:
    return f"{APP}\napp = {last}\n"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("app", "gives_signs"),
    [
        ("framework()", True),
        ("mount(framework())", True),
        ("framework(Outer)", False),
        ("framework(Plain)", False),
        ("framework(Dispatching)", False),
        ("Outer(framework())", False),
    ],
)
def test_only_what_comes_first_in_a_callback_is_a_sign_of_life(
    app: str, gives_signs: bool, loop: str, short_tmp: Path
) -> None:
    with server(short_tmp, "--loop", loop, app=served(app)) as url:
        for _ in range(5):
            assert call(f"{url}/")[0] == 200
        assert set(json.loads(call(f"{url}/signs")[1])) == {gives_signs}
        assert call(f"{url}/watch/reset?limit_s=0.02", "POST", TOKEN)[0] == 200
        call(f"{url}/")
        assert set(json.loads(call(f"{url}/signs")[1])) == {gives_signs}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_one_callback_that_blocks_before_and_behind_the_probe_is_one_stall(loop: str, short_tmp: Path) -> None:
    with server(short_tmp, "--loop", loop, app=served("framework(Outer)")) as url:
        assert call(f"{url}/watch/reset", "POST", TOKEN)[0] == 200
        for _ in range(50):
            call(f"{url}/block")
        report = read(url)
        assert report["by_cause"]["loop"]["stalls"] > 35, report  # a loaded machine may take some to itself
