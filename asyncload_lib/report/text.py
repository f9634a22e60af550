"""Text that others wrote (endpoint names, errors, hosts, code lines) made inert, once, before any template sees it."""

import re
import unicodedata
from typing import Any

from markupsafe import Markup

from asyncload_lib.report.numbers import NOTHING

__all__ = ["clean", "code_line", "markdown_code", "markdown_fence", "markdown_text", "sentence_case"]

# Cc: C0, C1 and DEL (NUL, ANSI escapes). Cf: bidirectional overrides, zero-width marks. Cs: lone surrogates.
# Co, Cn: private use and noncharacters, which XML 1.0 refuses in part. Zl, Zp: line and paragraph separators.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_EMOJI_JOINER = "\u200d"
_MARKDOWN_SIGNS = re.compile(r"([\\`*\[\]|~$!])")
_WORD_BORDER_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_REFERENCE = re.compile(r"([@#])(?=\w)")
_ENTITY = re.compile(r"&(?=[#A-Za-z])")
_TAG_START = re.compile(r"<(?![ =\d])")  # a tag starts with a letter, /, ! or ?; "< 2 s" stays readable
_BLOCK_START = re.compile(r"^(\s*)([-+#=](?=[-#=\s]|$)|>(?!=))|^(\s*\d{1,9})([.)](?=\s|$))")
_BREAK = "\u200b"


def clean(value: Any, limit: int = 200) -> str:
    """Give `value` as one printable line of at most `limit` characters; what cannot be seen is spelled out (`\\x1b`).

    None and the empty string are NOTHING. Runs of white space become one space.
    """
    if value is None:
        return NOTHING
    text = value if isinstance(value, str) else str(value)
    cut = len(text) > limit
    text = re.sub(r"\s+", " ", text[: limit * 4]).strip()
    text = "".join(_visible(character) for character in text[: limit + 1])
    if cut or len(text) > limit:
        text = text[: limit - 1].rstrip() + "…"
    return text or NOTHING


def code_line(value: Any, limit: int = 160) -> str:
    """Give one line of source as `clean` does, with its indentation kept."""
    text = "" if value is None else str(value).rstrip("\r\n")
    body = text.lstrip(" \t")
    indent = text[: len(text) - len(body)].expandtabs(4)[:40]
    return indent + clean(body, limit) if body.strip() else ""


def _visible(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    if unicodedata.category(character) not in _HIDDEN_CATEGORIES or character == _EMOJI_JOINER:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def markdown_text(value: Any) -> Markup:
    """Escape `value` so that no Markdown renderer finds markup, HTML, math, a mention or a link in it.

    The `finalize` of Markdown templates: every expression passes here. What is markup already passes unchanged.
    """
    if isinstance(value, Markup):
        return value
    text = re.sub(r"[\r\n]+", " ", str(value))
    text = _ENTITY.sub("&amp;", text)
    text = _TAG_START.sub("&lt;", text)
    text = _MARKDOWN_SIGNS.sub(r"\\\1", text)
    text = _WORD_BORDER_UNDERSCORE.sub(r"\\_", text)
    # GitHub looks for mentions, issue numbers and bare addresses in rendered text, after escapes: split them.
    text = _REFERENCE.sub(rf"\1{_BREAK}", text)
    text = text.replace("://", f":{_BREAK}//").replace("www.", f"www{_BREAK}.")
    return Markup(_BLOCK_START.sub(lambda found: "\\".join(part for part in found.groups() if part is not None), text))


def markdown_code(value: Any) -> Markup:
    """Write `value` as a code span that also stands in a table cell."""
    text = str(value).replace("\r", " ").replace("\n", " ")
    if text == NOTHING:
        return Markup(NOTHING)
    # A table row is cut at pipes before code spans are seen; a backslash before the pipe would free it again.
    text = re.sub(r"(\\*)\|", lambda found: found[1] * 2 + r"\|", text)
    ticks = _fence(text, 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return Markup(f"{ticks}{pad}{text}{pad}{ticks}")


def markdown_fence(lines: list[str]) -> Markup:
    """Write `lines` as a fenced code block whose fence is longer than any run of backticks inside."""
    fence = _fence("\n".join(lines), 3)
    return Markup("\n".join([f"{fence}text", *lines, fence]))


def _fence(text: str, least: int) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(least, longest + 1)


def sentence_case(text: str) -> str:
    """Begin with a capital, unless the first word is a name, such as `vm:4711` or `redis.url`."""
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.strip(",;").isalpha() else text
