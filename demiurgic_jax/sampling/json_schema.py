"""The part of JSON Schema that this server's requests are described in, and a check that says what is wrong.

The same schemas are published as OpenAPI, so what a client reads there is what is checked here.
"""

import math
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_WORDS = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}


def problem(value: Any, schema: Schema) -> str | None:
    """What is wrong with `value`, as the end of a sentence that begins with its name; None where nothing is.

    A `title` beside `anyOf` says what all the alternatives are.
    """
    if "anyOf" in schema:
        fits = any(problem(value, alternative) is None for alternative in schema["anyOf"])
        return None if fits else f"is {_short(value)}: give {schema['title']}"
    if "enum" in schema and not any(value == known and type(value) is type(known) for known in schema["enum"]):
        return f"is {_short(value)}: give " + " or ".join(map(_short, schema["enum"]))
    kind = schema.get("type")
    if kind is not None and not _is(value, kind):
        return f"is {_short(value)}: give {_WORDS[kind]}"
    if kind in ("integer", "number"):
        return _out_of_bounds(value, schema)
    if kind == "string" and len(value) < schema.get("minLength", 0):
        return "is empty: leave it out"
    if kind == "array":
        return _wrong_list(value, schema)
    return _wrong_object(value, schema) if kind == "object" else None


def plain(value: Any, schema: Schema) -> Any:
    """A value that was found right, in Python's own types: 1.0 is a whole number in JSON."""
    return int(value) if schema.get("type") == "integer" else value


def _is(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return number and (kind == "number" or int(value) == value)
    return isinstance(value, {"string": str, "array": list, "object": dict}[kind])


def _out_of_bounds(value: float, schema: Schema) -> str | None:
    low, above, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    if (low is None or value >= low) and (above is None or value > above) and (high is None or value <= high):
        return None
    least = [] if low is None else [f"at least {low}"]
    more = [] if above is None else [f"more than {above}"]
    most = [] if high is None else [f"at most {high}"]
    return f"is {_short(value)}: give " + " and ".join(least + more + most)


def _wrong_list(value: list, schema: Schema) -> str | None:
    if len(value) < schema.get("minItems", 0):
        return f"has {len(value)} entries: give at least {schema['minItems']}"
    if len(value) > schema.get("maxItems", math.inf):
        return f"has {len(value)} entries: give at most {schema['maxItems']}"
    found = (problem(entry, schema.get("items", {})) for entry in value)
    return next((f"has at {index} an entry that {wrong}" for index, wrong in enumerate(found) if wrong), None)


def _wrong_object(value: dict, schema: Schema) -> str | None:
    for name in schema.get("required", ()):
        if name not in value:
            return f"has no {name}: add it"
    for name, part in schema.get("properties", {}).items():
        if name in value and (wrong := problem(value[name], part)):
            return f"has a {name} that {wrong}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
