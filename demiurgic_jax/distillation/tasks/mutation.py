"""Breaks Python code in one place, everything else staying as it was written."""

import io
import random
import token
import tokenize

from demiurgic_jax.curation.python_code import parses

_SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "//": "/",
    "+=": "-=", "-=": "+=", "and": "or", "or": "and", "True": "False", "False": "True", "not": "",
    "min": "max", "max": "min", "any": "all", "all": "any",
}  # fmt: skip


def break_code(code: str, body_line: int, rng: random.Random) -> str | None:
    """`code` with one operator, keyword or whole number of its body exchanged for a near one; None if none can be.

    `body_line` is the number of lines that are left alone at the top.
    """
    places = [(place, new) for place in _tokens(code) if place.start[0] > body_line and (new := _wrong(place))]
    rng.shuffle(places)
    for place, new in places:
        lines = code.splitlines(keepends=True)
        row, (start, end) = place.start[0] - 1, (place.start[1], place.end[1])
        lines[row] = lines[row][:start] + new.strip() + lines[row][end:]
        broken = "".join(lines)
        if parses(broken):
            return broken
    return None


def _tokens(code: str) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(code).readline))


def _wrong(place: tokenize.TokenInfo) -> str | None:
    """A near but wrong text for a token. A blank stands for leaving it out."""
    if place.type == token.NUMBER:
        return str(int(place.string) + 1) if place.string.isdecimal() else None
    if place.type in (token.OP, token.NAME) and place.string in _SWAPS:
        return _SWAPS[place.string] or " "
    return None
