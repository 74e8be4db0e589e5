"""Code as what is left when names, layout and comments are taken away: copies are found through both.

The n-grams are parameterized (Baker 1993, A Theory of Parameterized Pattern Matching): a name is replaced with how far
back in the n-gram it last stood, so that consistent renaming changes nothing while every other change does.
"""

import keyword
import re
from functools import cache

import numpy as np

from demiurgic_jax.curation.tokens import BLANK, WORD, as_bytes, code_classes, mix, span_hashes, token_spans

_STRINGS = rb"|(?P<string>\"(?:[^\"\\\n]|\\[\s\S])*\"?|`(?:[^`\\]|\\[\s\S])*`?|'(?:[^'\\\n]|\\[\s\S])*')"
_PYTHON = re.compile(rb"#[^\n]*|\"\"\"[\s\S]*?(?:\"\"\"|\Z)|'''[\s\S]*?(?:'''|\Z)" + _STRINGS)
_BRACES = re.compile(rb"//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)" + _STRINGS)
# Marks that reformatting adds and takes away. Of brackets, `[` alone is kept.
_LAYOUT = ("(", ")", "{", "}", ";", ",", "\\", "'", '"', "`", "->")
# Marks of two letters are one.
_PAIRS = ("->", "=>", "::", "**", "//", "<<", ">>", "&&", "||", *(mark + "=" for mark in "-+*/%&|^<>=!"))
_PREFIXES = ("r", "R", "b", "B", "u", "U", "f", "F", "L", "rb", "Rb", "rB", "RB", "br", "fr", "rf", "Fr", "fR")
# Words that no renaming changes: keywords, constants and types of the seven languages.
_KEPT = frozenset(keyword.kwlist) | frozenset(
    [
        "abstract", "as", "async", "auto", "await", "bool", "boolean", "break", "byte", "case", "catch", "char",
        "class", "const", "constexpr", "continue", "default", "defer", "delete", "do", "double", "dyn", "else",
        "enum", "export", "extends", "final", "finally", "float", "fn", "for", "func", "function", "go", "goto",
        "if", "impl", "implements", "import", "in", "instanceof", "int", "interface", "let", "long", "loop", "map",
        "match", "mod", "mut", "namespace", "new", "nil", "null", "nullptr", "number", "of", "operator",
        "override", "package", "private", "protected", "pub", "public", "range", "ref", "return", "self", "short",
        "signed", "sizeof", "static", "str", "string", "struct", "super", "switch", "template", "this", "throw",
        "throws", "trait", "true", "type", "typename", "typeof", "u8", "u16", "u32", "u64", "i8", "i16", "i32",
        "i64", "f32", "f64", "usize", "isize", "undefined", "union", "unsafe", "unsigned", "use", "using", "var",
        "vector", "virtual", "void", "volatile", "where", "while", "yield", "len", "std", "String", "Vec",
        "Option", "Some", "None", "Ok", "Err", "List", "Map", "Set", "True", "False", "size_t",
    ]
)  # fmt: skip
_NAME_MARK = np.uint64(0x51ED270B9F652295)
_STRING_MARK = np.uint64(0x2545F4914F6CDD1D)


def code_tokens(text: str, language: str) -> tuple[np.ndarray, np.ndarray]:
    """Token hashes uint64 [n], and how many tokens back the same name last stood, int64 [n]: 0 for what is no name or
    is one that a renaming leaves (after a dot, before a call), and n + 1 for a name's first place. Comments and texts
    of several lines are no tokens; a string is one."""
    raw = as_bytes(text)
    classes = code_classes()[raw]
    strings = _blank_out(raw, classes, _PYTHON if language == "python" else _BRACES)
    starts, ends = token_spans(classes)
    starts, ends = _paired(raw, starts, ends)
    hashes = span_hashes(raw, starts, ends)
    # A place behind the last one stands for the end of the text.
    after = np.append(raw, np.uint8(0))[ends]
    prefix = _among(hashes, _hashes(_PREFIXES)) & np.isin(after, (34, 39, 96))
    starts, ends, hashes, after = (each[~prefix] for each in (starts, ends, hashes, after))
    if len(strings):
        inner = span_hashes(raw, strings[:, 0] + 1, np.maximum(strings[:, 1] - 1, strings[:, 0] + 1)) ^ _STRING_MARK
        order = np.argsort(np.concatenate([starts, strings[:, 0]]), kind="stable")
        hashes = np.concatenate([hashes, inner])[order]
        after = np.concatenate([after, np.zeros(len(inner), np.uint8)])[order]
        first = np.concatenate([raw[starts], np.zeros(len(inner), np.uint8)])[order]
    else:
        first = raw[starts]
    dot = np.concatenate([[False], first[:-1] == ord(".")]) if len(first) else np.zeros(0, bool)
    letter = (code_classes()[first] == WORD) & ~((first >= ord("0")) & (first <= ord("9")))
    name = letter & ~dot & (after != ord("(")) & ~_among(hashes, _hashes(tuple(_KEPT)))
    kept = ~_among(hashes, _hashes(_LAYOUT))
    return hashes[kept], _back(hashes[kept], name[kept])


def _blank_out(raw: np.ndarray, classes: np.ndarray, pattern: re.Pattern[bytes]) -> np.ndarray:
    """Makes comments, texts and strings blanks in `classes`; int64 [n, 2]: where the strings were."""
    strings = []
    for match in pattern.finditer(raw.tobytes()):
        start, end = match.span()
        classes[start:end] = BLANK
        if match.lastgroup:
            strings.append((start, end))
    return np.array(strings, np.int64).reshape(-1, 2)


def _paired(raw: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans in which marks that belong together are one."""
    if len(starts) < 2:
        return starts, ends
    codes = raw[starts[:-1]].astype(np.uint16) << 8 | raw[starts[1:]]
    single = ends - starts == 1
    pair = _pair_table()[codes] & (ends[:-1] == starts[1:]) & single[:-1] & single[1:]
    pair[1:] &= ~pair[:-1]
    first = np.flatnonzero(pair)
    ends = ends.copy()
    ends[first] += 1
    kept = np.ones(len(starts), bool)
    kept[first + 1] = False
    return starts[kept], ends[kept]


@cache
def _pair_table() -> np.ndarray:
    table = np.zeros(1 << 16, bool)
    table[[ord(pair[0]) << 8 | ord(pair[1]) for pair in _PAIRS]] = True
    return table


@cache
def _hashes(words: tuple[str, ...]) -> np.ndarray:
    """uint64, sorted."""
    raws = [as_bytes(word) for word in words]
    return np.sort([span_hashes(raw, np.array([0]), np.array([len(raw)]))[0] for raw in raws])


def _among(hashes: np.ndarray, known: np.ndarray) -> np.ndarray:
    return known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes


def _back(hashes: np.ndarray, name: np.ndarray) -> np.ndarray:
    back = np.zeros(len(hashes), np.int64)
    places = np.flatnonzero(name)
    if not len(places):
        return back
    order = np.argsort(hashes[places], kind="stable")
    sorted_places, sorted_hashes = places[order], hashes[places][order]
    distance = np.full(len(places), len(hashes) + 1)
    again = np.flatnonzero(sorted_hashes[1:] == sorted_hashes[:-1]) + 1
    distance[again] = sorted_places[again] - sorted_places[again - 1]
    back[sorted_places] = distance
    return back


def parameterized_ngrams(hashes: np.ndarray, back: np.ndarray, n: int) -> np.ndarray:
    """uint64 [max(len - n + 1, 0)]; of fewer than `n` tokens none."""
    count = len(hashes) - n + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    mixed = np.zeros(count, np.uint64)
    for offset in range(n):
        distance = back[offset : offset + count]
        within = np.where(distance > offset, 0, distance).astype(np.uint64)
        value = np.where(distance == 0, hashes[offset : offset + count], _NAME_MARK + within)
        mixed = mix(mixed ^ value)
    return mixed
