"""The names that a locustfile or a target imports from `asyncload_lib`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import asyncload_lib

ROOT = Path(__file__).parents[1]


def in_new_process(code: str) -> object:
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_names_are_sorted_and_found_by_dir() -> None:
    assert asyncload_lib.__all__ == sorted(asyncload_lib.__all__)
    assert set(asyncload_lib.__all__) <= set(dir(asyncload_lib))


def test_every_public_name_is_what_it_says() -> None:
    code = (
        "import json, asyncload_lib as a\n"
        "print(json.dumps({name: getattr(a, name).__name__ for name in a.__all__ if name != '__version__'}))"
    )
    names = in_new_process(code)
    assert names == {name: name for name in asyncload_lib.__all__ if name != "__version__"}


def test_target_gets_the_probe_without_locust_and_gevent() -> None:
    code = (
        "import json, sys\n"
        "from asyncload_lib import LoopMonitor, LoopProbe, __version__\n"
        "print(json.dumps(sorted({'locust', 'gevent', 'numpy', 'jinja2', 'redis'} & set(sys.modules))))"
    )
    assert in_new_process(code) == []


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = asyncload_lib.nonsense
