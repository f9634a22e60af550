import re
import unicodedata
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncload_lib.report.text import clean, code_line, markdown_code, markdown_fence, markdown_text
from tests.report.cases import HOSTILE

ANY_TEXT = st.text(st.characters(codec=None), max_size=300)


@given(ANY_TEXT)
def test_clean_text_is_one_visible_line(text: str) -> None:
    found = clean(text, 80)
    assert 1 <= len(found) <= 80
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [sign for sign in found if unicodedata.category(sign) in hidden and sign != "\u200d"]
    ET.fromstring(f"<x>{found.replace('&', '').replace('<', '').replace('>', '')}</x>")


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert clean("a\x00b\x1b[31m\u202ec\ud800") == r"a\x00b\x1b[31m\u202ec\ud800"
    assert clean("  two\n\tlines ") == "two lines"


def test_nothing_is_a_dash_and_long_text_is_cut() -> None:
    assert clean(None) == clean("") == "–"  # noqa: RUF001
    assert clean("x" * 100_000) == "x" * 199 + "…"


def test_a_line_of_code_keeps_its_indentation() -> None:
    assert code_line("\tif x:  \n") == "    if x:"
    assert code_line("") == ""
    assert len(code_line(" " * 10_000 + "x")) <= 41


@given(ANY_TEXT | st.sampled_from(HOSTILE))
def test_markdown_text_holds_no_markup(text: str) -> None:
    found = str(markdown_text(text))
    without_escapes = re.sub(r"\\[!-/:-@\[-`{-~]", "", found)
    assert not re.search(r"[`*\[\]|~$!]", without_escapes)
    assert not re.search(r"<[a-zA-Z/!?]|&(?!amp;|lt;)[a-zA-Z#]", without_escapes)
    assert "\n" not in found
    assert "\r" not in found
    assert not re.search(r"[@#]\w|://|www\.", without_escapes)


@pytest.mark.parametrize("start", ["# x", "- x", "+ x", "> x", "1. x", "12) x", "---", "===", "-"])
def test_markdown_text_starts_no_block(start: str) -> None:
    assert not re.match(r"\s*([-+#>=]|\d+[.)](\s|$))", str(markdown_text(start)))


def test_a_criterion_stays_readable_in_raw_markdown() -> None:
    assert str(markdown_text("chat.sustained p95 < 2 s, speedup >= 10x, time_to_first_token")) == (
        "chat.sustained p95 < 2 s, speedup >= 10x, time_to_first_token"
    )


@given(st.text("`|\\ ab", max_size=40))
def test_markdown_code_never_ends_early_and_never_cuts_a_row(text: str) -> None:
    found = str(markdown_code(text))
    ticks = re.match(r"`+", found)
    assert ticks
    assert re.findall(rf"(?<!`){ticks[0]}(?!`)", found) == [ticks[0]] * 2 or not text.strip("`")
    # GitHub reads an escaped sign as a pair, from the left, and cuts a row at every pipe that is left over.
    assert "|" not in re.sub(r"\\[!-/:-@\[-`{-~]", "", found)


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert markdown_fence(["```", "````x"]).split("\n") == ["`````text", "```", "````x", "`````"]
