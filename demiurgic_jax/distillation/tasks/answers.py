"""What can be seen in an answer without running it."""

import re
from collections import Counter

from demiurgic_jax.curation.code import parses

_FENCE = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)


def fenced(code: str, language: str = "python") -> str:
    """`code` as a Markdown block."""
    return f"```{language}\n{code.rstrip()}\n```"


def code_in(text: str, language: str = "python") -> str | None:
    """The first fenced block of `text` (to the end where the fence is not closed), or all of it if it is code."""
    block = _FENCE.search(text)
    if block:
        return block[1]
    return text if text.strip() and is_code(text, language) else None


def prose_in(text: str) -> str:
    """`text` without its fenced blocks."""
    return _FENCE.sub("", text).strip()


def is_code(text: str, language: str) -> bool:
    """Whether `text` is valid by itself: a file, or in Java a method alone."""
    return parses(text, language) or (language == "java" and parses(text, language, kind="method"))


def repeats_itself(text: str) -> bool:
    """Whether one line makes up most of a text of some length: what small models do when they lose the thread."""
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 1]
    return len(lines) >= 6 and Counter(lines).most_common(1)[0][1] * 2 > len(lines)


def useless(text: str) -> str | None:
    """Why a text is no answer at all: nothing, or a line over and over."""
    if not text.strip():
        return "empty"
    return "repeats itself" if repeats_itself(text) else None


def same_name(one: str, other: str) -> bool:
    """Whether two names are one in the manners of two languages: `word_count`, `wordCount`, `WordCount`."""
    return one.replace("_", "").lower() == other.replace("_", "").lower()
