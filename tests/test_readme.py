"""What the README shows is there, and what is there the README shows."""

import re

from asyncload_lib.errors import ExitCode
from asyncload_lib.settings import OPTIONS
from tests.locust_run import ROOT

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_setting_stands_with_its_default_and_meaning() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*) \|$", README, re.M))

    assert set(rows) == set(OPTIONS)
    for key, option in OPTIONS.items():
        assert option.help in rows[key], key
        if isinstance(option.default, str | int | float) and not isinstance(option.default, bool):
            assert f"`{option.default}`" in rows[key], key


def test_every_exit_code_stands_in_its_table() -> None:
    table = README.partition("## Exit codes")[2].partition("These are")[0]

    assert {
        int(code) for row in table.splitlines() for code in re.findall(r"\d+", row.split("|")[1] if "|" in row else "")
    } == {int(code) for code in ExitCode}


def test_every_make_target_that_is_shown_exists_and_every_one_is_explained() -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
    explained = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.M))
    phony = set(next(re.finditer(r"^\.PHONY: (.*)$", MAKEFILE, re.M)).group(1).split())

    assert set(re.findall(r"\bmake ([a-z]+)\b(?! all| are)", README)) <= targets | {"the", "load", "test"}
    assert targets == explained == phony


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
