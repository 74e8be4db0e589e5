"""Breaks code in one place, everything else staying as it was written."""

import io
import random
import token
import tokenize
from collections.abc import Iterator

import tree_sitter

from demiurgic_jax.curation.code import definitions, parses
from demiurgic_jax.curation.definition import Definition
from demiurgic_jax.curation.languages import language_named, syntax_tree_of
from demiurgic_jax.curation.python_code import functions
from demiurgic_jax.curation.seeds import Kind

_SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "//": "/",
    "+=": "-=", "-=": "+=", "and": "or", "or": "and", "True": "False", "False": "True", "not": "",
    "min": "max", "max": "min", "any": "all", "all": "any",
}  # fmt: skip
_BRACE_SWAPS = {
    **{old: new for old, new in _SWAPS.items() if not old.isalpha() and old != "//"},
    "===": "!==", "!==": "===", "&&": "||", "||": "&&", "*": "+", "++": "--", "--": "++", "true": "false",
    "false": "true", "!": "", "min": "max", "max": "min", "some": "every", "every": "some",
}  # fmt: skip
# In these an operator is one; elsewhere `<` opens types, and `-` or `*` may stand for something else.
_OPERATIONS = ("binary", "assign", "unary", "update", "inc_statement", "dec_statement", "logical")


def break_code(code: str, language: str, draw: random.Random, kind: Kind = "function") -> str | None:
    """A function or method `code` with one operator, keyword or whole number of its body exchanged for a near one;
    None if none can be."""
    places = _python_places(code) if language == "python" else _tree_places(code, language, kind)
    draw.shuffle(places)
    for start, end, new in places:
        broken = code[:start] + new + code[end:]
        if parses(broken, language, kind="method" if kind == "method" else None):
            return broken
    return None


def _python_places(code: str) -> list[tuple[int, int, str]]:
    """Start and end (characters) of what can be exchanged, and for what."""
    found = functions(code)
    if len(found) != 1:
        return []
    lines = [0]
    for line in code.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return [
        (lines[each.start[0] - 1] + each.start[1], lines[each.end[0] - 1] + each.end[1], new.strip())
        for each in tokens
        if each.start[0] > found[0].body_line and (new := _wrong(each))
    ]


def _wrong(place: tokenize.TokenInfo) -> str | None:
    """A near but wrong text for a token. A blank stands for leaving it out."""
    if place.type == token.NUMBER:
        return str(int(place.string) + 1) if place.string.isdecimal() else None
    if place.type in (token.OP, token.NAME) and place.string in _SWAPS:
        return _SWAPS[place.string] or " "
    return None


def _tree_places(code: str, language: str, kind: Kind) -> list[tuple[int, int, str]]:
    known = language_named(language)
    before, after = known.method_frame if kind == "method" else ("", "")
    framed = before + code + after
    body = _body(definitions(framed, language))
    if body is None or body.code not in framed:
        return []
    offset = framed.index(body.code)
    source = framed.encode("utf-8", "surrogatepass")
    places = []
    for leaf in _leaves(syntax_tree_of(source, known).root_node):
        start = len(source[: leaf.start_byte].decode("utf-8", "surrogatepass"))
        new = _wrong_leaf(leaf)
        if new is not None and offset + body.body_start <= start < offset + body.body_end:
            length = len((leaf.text or b"").decode("utf-8", "surrogatepass"))
            places.append((start - len(before), start - len(before) + length, new))
    return places


def _body(found: list[Definition]) -> Definition | None:
    functions_ = [each for each in found if each.kind != "class"]
    return functions_[0] if len(functions_) == 1 else None


def _leaves(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    if not node.child_count:
        yield node
    for child in node.children:
        yield from _leaves(child)


def _wrong_leaf(leaf: tree_sitter.Node) -> str | None:
    text = (leaf.text or b"").decode("utf-8", "replace")
    if text.isdecimal() and ("number" in leaf.type or "integer" in leaf.type or leaf.type == "int_literal"):
        return str(int(text) + 1)
    if text not in _BRACE_SWAPS:
        return None
    parent = leaf.parent.type if leaf.parent else ""
    if leaf.is_named or text in ("true", "false") or any(each in parent for each in _OPERATIONS):
        return _BRACE_SWAPS[text]
    return None
