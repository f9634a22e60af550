"""Settings and Locust's own options meet on one command line."""

import os
from pathlib import Path

import pytest
from locust.argument_parser import get_parser, ui_extra_args_dict
from locust.env import Environment

import asyncload_lib.plugin  # noqa: F401 its listener adds the flags to the parser
from asyncload_lib.run import command_line
from tests.logged_process import OF_OTHERS


@pytest.mark.parametrize(
    ("given", "winner"),
    [
        (["-H"], "-H"),
        (["LOCUST_HOST"], "LOCUST_HOST"),
        (["locust.conf"], "locust.conf"),
        (["-H", "--asyncload-host", "LOCUST_HOST", "ASYNCLOAD_HOST", "locust.conf", "file"], "-H"),
        (["--asyncload-host", "LOCUST_HOST", "ASYNCLOAD_HOST", "locust.conf", "file"], "--asyncload-host"),
        (["LOCUST_HOST", "ASYNCLOAD_HOST", "locust.conf", "file"], "LOCUST_HOST"),
        (["ASYNCLOAD_HOST", "locust.conf", "file"], "ASYNCLOAD_HOST"),
        (["locust.conf", "file"], "locust.conf"),
        (["file"], "file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_two_hosts_the_one_from_the_stronger_place_is_loaded(
    given: list[str], winner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(OF_OTHERS)]:
        monkeypatch.delenv(name)
    hosts = {place: f"http://127.0.0.1:{port}" for port, place in enumerate(given, 9001)}
    words: list[str] = []
    for place, host in hosts.items():
        if place == "-H":
            words.append(f"--host={host}")
        elif place == "--asyncload-host":
            words += [place, host]
        elif place == "locust.conf":
            (tmp_path / place).write_text(f"host = {host}\n")
        elif place == "file":
            (tmp_path / "settings.toml").write_text(f'host = "{host}"\n')
            words += ["--asyncload-config", str(tmp_path / "settings.toml")]
        else:
            monkeypatch.setenv(place, host)
    monkeypatch.setattr(command_line, "_parsers", [])
    options = get_parser(default_config_files=[str(tmp_path / "locust.conf")]).parse_args(words)
    environment = Environment(parsed_options=options, host=options.host)
    command_line.settings_of(environment)
    assert environment.host == hosts[winner]


def test_flags_of_locust_reach_the_options_and_not_its_web_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(OF_OTHERS)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(command_line, "_parsers", [])
    words = ["--asyncload-loop-probe-token", "hunter2", "--asyncload-seed", "3"]
    options = get_parser(default_config_files=[]).parse_args([*words, "-H", "http://h"])
    assert (options.asyncload_loop_probe_token, options.asyncload_seed) == ("hunter2", "3")
    assert options.asyncload_out is None
    assert [name for name in ui_extra_args_dict(words) if "asyncload" in name] == []
