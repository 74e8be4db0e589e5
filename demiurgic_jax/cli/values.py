"""What a value may be, whether it was typed on a command line, set in the environment or written in TOML.

A kind is a function from the raw value to the checked one. It raises ValueError, whose text is what to give instead.
"""

import json
import math
from collections.abc import Callable
from typing import Any

Kind = Callable[[Any], Any]
MESH_AXES = ("data", "fsdp", "context", "tensor")  # as in sharding/mesh.py


def text(value: Any) -> str:
    """Any string but the empty one."""
    if not isinstance(value, str) or not value:
        raise ValueError("give a text")
    return value


def number(low: float, high: float = math.inf, *, above: bool = False) -> Kind:
    """A number of `low` (with `above`, of more than it) to `high`."""
    wish = f"give a number {'above' if above else 'of at least'} {low:g}"
    if high < math.inf:
        wish += f" and at most {high:g}"

    def parse(value: Any) -> float:
        try:
            parsed = math.nan if isinstance(value, bool) else float(value)
        except (ValueError, TypeError):
            parsed = math.nan
        # Written so that NaN fails too.
        if not (low < parsed if above else low <= parsed) or not parsed <= high or parsed == math.inf:
            raise ValueError(wish)
        return parsed

    return parse


def whole(low: int, high: int | None = None) -> Kind:
    """A whole number of `low` to `high`."""
    wish = f"give a whole number of at least {low}" + (f" and at most {high}" if high is not None else "")

    def parse(value: Any) -> int:
        try:
            parsed = int(value) if isinstance(value, str) else value
        except ValueError:
            parsed = None
        if (
            not isinstance(parsed, int)
            or isinstance(parsed, bool)
            or parsed < low
            or (high is not None and parsed > high)
        ):
            raise ValueError(wish)
        return parsed

    return parse


def truth(value: Any) -> bool:
    """true or false, in the words that people use for them."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    parsed = words.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(parsed, bool):
        raise ValueError("give true or false")
    return parsed


def choice(*words: str) -> Kind:
    """One of `words`."""

    def parse(value: Any) -> str:
        if value not in words:
            raise ValueError(f"give one of {', '.join(words)}")
        return value

    return parse


def texts(value: Any) -> tuple[str, ...]:
    """One text or a list of them. In a string, JSON is read as JSON: '"\\n\\n"' is two line ends."""
    value = _json(value)
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) and each for each in values):
        raise ValueError("give a text, or a JSON list of texts")
    return tuple(values)


def wholes(value: Any) -> tuple[int, ...]:
    """Whole numbers of at least 0: a list, or in a string with commas between them."""
    values = value.strip("[]").split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    try:
        return tuple(whole(0)(each) for each in values)
    except ValueError as error:
        raise ValueError("give whole numbers with commas between them") from error


def mesh(value: Any) -> tuple[tuple[str, int], ...]:
    """Axes of a device mesh and their sizes: "fsdp=2,tensor=4", or in TOML a table of them."""
    parts = [part.split("=") for part in value.split(",")] if isinstance(value, str) else list(dict(value).items())
    try:
        axes = tuple((choice(*MESH_AXES)(name.strip()), whole(1)(size)) for name, size in parts)
        if len(dict(axes)) == len(axes):
            return axes
    except ValueError:
        pass
    raise ValueError(f"give sizes of {', '.join(MESH_AXES)}, like fsdp=2,tensor=4")


def _json(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ('"', "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
