"""How to fail a test when its event loop is blocked. Run it:

pytest -p asyncload_lib.eventloop.pytest_plugin tests/eventloop/example_must_not_block.py
"""

import asyncio
import hashlib
import time

import pytest


async def digest(data: bytes) -> str:
    return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())


def test_digest_leaves_the_loop_alone(loop_must_not_block: object) -> None:
    assert asyncio.run(digest(b"x" * 10_000_000)).startswith("0c9a")


@pytest.mark.loop_limit(0.5)  # seconds; 10 ms without the mark
def test_a_known_pause_is_allowed(loop_must_not_block: object) -> None:
    async def pause() -> None:
        time.sleep(0.05)

    asyncio.run(pause())
