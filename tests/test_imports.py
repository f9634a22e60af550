"""Which room may import which, and behind which door each framework stands: the architecture, as two tables."""

import ast
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "asyncload_lib"

WORDS = {"errors", "redaction", "units", "vm_list", "options", "settings", "addresses", "target"}
"""What every room may know of a run's configuration, once it is allowed `settings`."""

ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "redaction": set(),
    "units": {"errors", "redaction"},
    "vm_list": {"errors", "units"},
    "target": {"errors", "units", "vm_list"},
    "options": {"errors", "units", "vm_list"},
    "settings": {"errors", "redaction", "units", "vm_list", "options"},
    "addresses": {"settings"},
    "results": {"errors", "redaction"},
    "verdict": {"errors", "redaction", "results"},
    "report": {"errors", "units", "results", "verdict"},
    "eventloop": {"errors"},
    "demo": WORDS | {"eventloop"},
    "users": WORDS | {"results", "eventloop"},
    "run": WORDS | {"results", "verdict", "report", "eventloop", "demo", "users", ""},
}
"""A room or module of `asyncload_lib`, and what it may import besides itself."""

WIRING = {"plugin", "suite", "free_run"}
ROOMS |= {module: {*ROOMS, *WIRING, ""} for module in WIRING}
ROOMS |= {"": ROOMS["run"], "__main__": ROOMS["run"] - {"users"}}
"""The wiring stands on top and may see everything; the command line works without users; "" is the package itself."""

ON_THE_HUB = {"users", "run", *WIRING}
"""What Locust calls, and what calls Locust."""

DOORS: dict[str, set[str]] = {
    "locust": ON_THE_HUB - {"free_run"},
    "gevent": {*ON_THE_HUB, "eventloop.thread"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "msgpack": {"run.messages"},
    "matplotlib": {"report.charts"},
    "numpy": {"results"},
    "redis": {"users", "demo"},
    "pyreqwest": {"users", "run.observer"},
    "uvloop": {"eventloop.pool", "demo"},
    "requests": {"users"},
    "anyio": {"demo"},
    "fastapi": {"demo"},
    "pydantic": {"demo"},
    "starlette": {"demo"},
    "uvicorn": {"demo"},
    "pytest": {"eventloop.pytest_plugin"},
    "flask": {"run.verdict_tab", "run.web_start"},
}
"""A third-party package, and the rooms or modules that may import it."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """Return the module's name below the package: `results.histogram`, `errors`, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, source: str) -> Iterator[str]:
    """Yield the absolute name of everything a module imports, wherever in it the import stands."""
    package = ["asyncload_lib", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            # `from asyncload_lib.users import events` imports the module events as well.
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def trespasses(path: Path, source: str) -> list[str]:
    """Return what the tables forbid in a module; a module without a row is forbidden itself."""
    module = dotted(path)
    room = module.partition(".")[0]
    if room not in ROOMS:
        return [f"asyncload_lib.{module} has no row in ROOMS"]
    found = []
    for name in imported(path, source):
        top, _, rest = name.partition(".")
        if top == "asyncload_lib":
            other = rest.partition(".")[0]
            other = other if other in ROOMS else ""
            if other not in {room, *ROOMS[room]}:
                found.append(f"{module} imports {name}: {room} may know {sorted(ROOMS[room])}")
        elif top in DOORS:
            if not DOORS[top] & {room, module}:
                found.append(f"{module} imports {name}: only {sorted(DOORS[top])} may")
        elif top not in sys.stdlib_module_names:
            found.append(f"{module} imports {name}, which has no row in DOORS")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: dotted(path) or "asyncload_lib")
def test_imports_keep_their_direction(path: Path) -> None:
    assert trespasses(path, path.read_text("utf-8")) == []


def unused(sources: dict[Path, str]) -> list[str]:
    """Return the doors that nobody goes through any more."""
    used: dict[str, set[str]] = {package: set() for package in DOORS}
    for path, source in sources.items():
        module = dotted(path)
        for name in imported(path, source):
            if (package := name.partition(".")[0]) in DOORS:
                used[package] |= {module, module.partition(".")[0]}
    return [f"{door} for {package}" for package, doors in DOORS.items() for door in sorted(doors - used[package])]


def test_every_door_is_in_use() -> None:
    assert unused({path: path.read_text("utf-8") for path in MODULES}) == []


def test_a_door_out_of_use_is_seen() -> None:
    sources = {path: path.read_text("utf-8") for path in MODULES if dotted(path) != "plugin"}
    assert unused(sources) == ["plugin for locust", "plugin for gevent"]


def test_the_readme_names_who_stands_on_locust() -> None:
    built = (PACKAGE.parent / "README.md").read_text("utf-8").partition("## How it is built")[2]
    (locust,) = re.findall(r"Only (.*?) import Locust", built, re.S)
    (gevent,) = re.findall(r"besides them only (.*?) import gevent", built, re.S)
    by_name = re.compile(r"`(?:asyncload_lib/)?([\w/]+?)(?:\.py)?/?`")

    assert set(by_name.findall(locust)) == DOORS["locust"]
    assert {name.replace("/", ".") for name in by_name.findall(gevent)} == DOORS["gevent"] - DOORS["locust"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("results/histogram.py", "from asyncload_lib.verdict import criteria"),
        ("results/histogram.py", "from ..report.render import render_all"),
        ("results/histogram.py", "from .. import plugin"),
        ("results/histogram.py", "def f():\n    import locust.env"),
        ("results/histogram.py", "import requests"),
        ("eventloop/lag.py", "import gevent"),
        ("eventloop/asgi.py", "from asyncload_lib.results.histogram import Histogram"),
        ("demo/app.py", "import locust"),
        ("demo/app.py", "from asyncload_lib import users"),
        ("verdict/criteria.py", "import jinja2"),
        ("report/render.py", "import matplotlib.pyplot"),
        ("report/render.py", "from asyncload_lib.users.base import AsyncUser"),
        ("errors.py", "from asyncload_lib.settings import Settings"),
        ("newroom/thing.py", ""),
        ("newmodule.py", ""),
    ],
)
def test_a_trespass_is_seen(module: str, source: str) -> None:
    assert len(trespasses(PACKAGE / module, source)) == 1


def test_rooms_have_no_cycle() -> None:
    below = {room: known - {room, ""} for room, known in ROOMS.items() if room not in WIRING}
    while below:
        free = {room for room, known in below.items() if not known & below.keys()}
        assert free, f"these import each other: {sorted(below)}"
        below = {room: known for room, known in below.items() if room not in free}


HEAVY = ["locust", "gevent", "matplotlib", "jinja2", "numpy"]


UNWANTED = {
    "import asyncload_lib": HEAVY,
    "import asyncload_lib.results.model, asyncload_lib.results.merge": HEAVY,
    "import asyncload_lib.verdict.criteria": ["locust", "gevent", "matplotlib", "jinja2"],
    "import asyncload_lib.report.render": ["locust", "gevent", "matplotlib"],
    "import asyncload_lib.eventloop.asgi": HEAVY,
    "import asyncload_lib.demo.app": ["locust", "gevent"],
    "import asyncload_lib.settings": HEAVY,
    "from asyncload_lib import ChatUser": ["redis", "matplotlib", "fastapi", "numpy"],
}


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """One Python for each statement, all started at once; each prints what is there that should not be."""
    with contextlib.ExitStack() as stack:
        pythons = {}
        for statement, unwanted in UNWANTED.items():
            program = f"import sys; {statement}; print([name for name in {unwanted!r} if name in sys.modules])"
            python = subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=PACKAGE.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            pythons[statement] = stack.enter_context(python)
            stack.callback(python.kill)
        yield pythons


@pytest.mark.parametrize("statement", UNWANTED)
def test_what_an_import_does_not_load(statement: str, started: dict[str, subprocess.Popen[str]]) -> None:
    found, complaints = started[statement].communicate(timeout=60)
    assert (found.strip(), complaints) == ("[]", "")
