"""Plain data: numbers, texts, truth values and lists of them, which every one of the seven languages has.

A function whose parameters are plain can be called with the same arguments in any language, and what it gives can be
compared. That is how the behaviour of code is tested here (see behaviour.py).
"""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

# "unsigned" is an int that is never negative; "any" is what a language without types takes.
Kind = Literal["int", "unsigned", "float", "bool", "str", "list", "any"]

_SCALARS: dict[str, dict[str, Kind]] = {
    "python": {"int": "int", "float": "float", "bool": "bool", "str": "str", "": "any", "Any": "any", "object": "any"},
    "javascript": {"": "any"},
    "typescript": {"number": "int", "boolean": "bool", "string": "str", "": "any", "any": "any", "unknown": "any"},
    "go": {
        **dict.fromkeys(("int", "int32", "int64"), "int"),
        **dict.fromkeys(("uint", "uint32", "uint64"), "unsigned"),
        **dict.fromkeys(("float32", "float64"), "float"),
        "bool": "bool", "string": "str", "any": "any", "interface{}": "any",
    },
    "rust": {
        **dict.fromkeys(("i16", "i32", "i64", "i128", "isize"), "int"),
        **dict.fromkeys(("u16", "u32", "u64", "u128", "usize"), "unsigned"),
        **dict.fromkeys(("f32", "f64"), "float"),
        "bool": "bool", "&str": "str", "String": "str", "&String": "str",
    },
    "java": {
        **dict.fromkeys(("int", "long", "Integer", "Long"), "int"),
        **dict.fromkeys(("float", "double", "Float", "Double"), "float"),
        **dict.fromkeys(("boolean", "Boolean"), "bool"),
        **dict.fromkeys(("String", "CharSequence"), "str"),
    },
    "cpp": {
        **dict.fromkeys(("int", "long", "long long", "int32_t", "int64_t", "auto"), "int"),
        **dict.fromkeys(("unsigned", "unsigned int", "size_t", "uint32_t", "uint64_t"), "unsigned"),
        **dict.fromkeys(("float", "double"), "float"),
        "bool": "bool", "string": "str", "string_view": "str",
    },
}  # fmt: skip
_LISTS: dict[str, tuple[str, ...]] = {
    "python": (r"(?:list|List|Sequence|Iterable|Collection)\[(.+)\]", r"(?:typing\.|collections\.abc\.)?(list|List)"),
    "typescript": (r"(.+)\[\]", r"(?:Readonly)?Array<(.+)>", r"readonly (.+)\[\]"),
    "go": (r"\[\](.+)",),
    "rust": (r"&?Vec<(.+)>", r"&\[(.+)\]"),
    "java": (r"(.+)\[\]", r"(?:java\.util\.)?(?:List|Collection|Iterable)<(.+)>"),
    "cpp": (r"vector<(.+)>",),
}
_VALUES: dict[Kind, tuple[Any, ...]] = {
    "int": (0, 1, 2, 3, 5, 7, 10, 12, 30, -1, -4),
    "unsigned": (0, 1, 2, 3, 5, 7, 10, 12, 30),
    "float": (0.0, 1.0, 2.25, 0.5, 10.0, -1.5),
    "bool": (True, False),
    "str": ("", "a", "abc", "Hello World", "level", "one two  two", "x=1", "12", "foo_bar", "A man, a plan"),
}


class UnfitError(Exception):
    """A value is none of the type."""


@dataclass(frozen=True)
class Plain:
    """A plain type, and how its language writes it."""

    kind: Kind
    text: str = ""
    item: "Plain | None" = None


# What a parameter without a type may take, and what its name says of it.
GUESSES = (
    Plain("int"), Plain("str"), Plain("list", "", Plain("int")), Plain("list", "", Plain("str")), Plain("float"),
)  # fmt: skip
_HINTS = (
    (re.compile(r"(?i)(^|_)(n|i|j|k|x|y|z|num|number|count|idx|index|size|length|len|limit|min|max|low|high|lo|hi"
                r"|start|stop|end|step|width|height|depth|total|year|month|day|radix|base|digits?)$"), GUESSES[::4]),
    (re.compile(r"(?i)(^|_)(s|str|string|text|word|line|name|path|key|prefix|suffix|ch|char|sep|delimiter|msg|message"
                r"|title|pattern|html|url|input|source|code)$"), GUESSES[1:2]),
    (re.compile(r"(?i)(list|arr|array|seq|stack|queue|data|[a-z]{2}s)$"), GUESSES[2:4]),
)  # fmt: skip


def guesses(name: str) -> tuple[Plain, ...]:
    """What a parameter of this name may take where its type is not given."""
    return next((kinds for pattern, kinds in _HINTS if pattern.search(name)), GUESSES)


def plain_type(text: str, language: str) -> Plain | None:
    """The plain type that `text` is in `language`, None for any other type."""
    text = _cleaned(text, language)
    kind = _SCALARS[language].get(text)
    if kind is not None:
        return Plain(kind, text)
    for pattern in _LISTS.get(language, ()):
        if found := re.fullmatch(pattern, text):
            item = Plain("any") if found[1] in ("list", "List") else plain_type(found[1], language)
            return None if item is None else Plain("list", text, item)
    return None


def _cleaned(text: str, language: str) -> str:
    if language == "cpp":
        text = re.sub(r"\bconst\b|\bstd::|\bstruct\b", "", text)
        # A reference to what is not constant is written to; a pointer's end is not known.
        text = re.sub(r"&\s*$", "", text)
        text = re.sub(r"\s*([<>,])\s*", r"\1", text)
    if language == "rust":
        text = re.sub(r"'\w+\s*", "", text)
    if language == "java":
        text = re.sub(r"\bfinal\b|@\w+", "", text)
    return " ".join(text.split())


def values(plain: Plain, draw: random.Random) -> Any:
    """A value of the type, of the small and telling ones."""
    if plain.kind == "any":
        return values(draw.choice(GUESSES), draw)
    if plain.kind == "list":
        assert plain.item is not None
        return [values(plain.item, draw) for _ in range(draw.choice((0, 1, 2, 3, 4, 5)))]
    return draw.choice(_VALUES[plain.kind])


def literal(value: Any, plain: Plain, language: str) -> str:
    """`value` as an expression of the type in `language`. Raises UnfitError where it is none."""
    if plain.kind == "list":
        if not isinstance(value, list):
            raise UnfitError
        assert plain.item is not None
        items = [literal(each, plain.item, language) for each in value]
        return _list(items, plain, language)
    if not _fits(value, plain.kind):
        raise UnfitError
    if language == "python":
        return repr(value)
    if language == "rust" and plain.kind == "str":
        return {"&str": "{}", "&String": "&{}.to_string()"}.get(plain.text, "{}.to_string()").format(json.dumps(value))
    if language == "cpp" and plain.kind == "str":
        return f"std::string({json.dumps(value)})"
    if language == "java" and plain.text in ("long", "Long", "float", "Float"):
        return f"{value}{'L' if plain.text in ('long', 'Long') else 'f'}"
    return repr(float(value)) if plain.kind == "float" else json.dumps(value)


def _fits(value: Any, kind: Kind) -> bool:
    match kind:
        case "any":
            return True
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return isinstance(value, int) and not isinstance(value, bool) and not (kind == "unsigned" and value < 0)


def _list(items: Sequence[str], plain: Plain, language: str) -> str:
    inside = ", ".join(items)
    assert plain.item is not None
    match language:
        case "go":
            return f"{plain.text}{{{inside}}}"
        case "rust":
            return f"&vec![{inside}]" if plain.text.startswith("&") else f"vec![{inside}]"
        case "java" if plain.text.endswith("[]"):
            return f"new {plain.text}{{{inside}}}"
        case "java":
            return f"new java.util.ArrayList<{plain.item.text}>(java.util.Arrays.<{plain.item.text}>asList({inside}))"
        case "cpp":
            return f"{_cpp_text(plain)}{{{inside}}}"
        case _:
            return f"[{inside}]"


def _cpp_text(plain: Plain) -> str:
    if plain.item is not None:
        return f"std::vector<{_cpp_text(plain.item)}>"
    return f"std::{plain.text}" if plain.kind == "str" else plain.text


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal: numbers to nine digits, and no list where the other language has none of it."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        both_nan = one != one and other != other
        return both_nan or one == other or abs(one - other) <= 1e-9 * max(abs(one), abs(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other
