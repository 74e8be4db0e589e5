"""Code as what is left when names, layout and comments are taken away: copies are found through both.

The n-grams are parameterized (Baker 1993, A Theory of Parameterized Pattern Matching): a name is replaced with how far
back in the n-gram it last stood, so that consistent renaming changes nothing while every other change does.
"""

import keyword
import re

import numpy as np

from demiurgic_jax.curation.tokens import hashes_of, mix

_STRING = (
    r'(?P<text>[rRbBuUfF]{0,2}(?:"""[\s\S]*?(?:"""|\Z)|\'\'\'[\s\S]*?(?:\'\'\'|\Z)))'
    r'|(?P<string>[rRbBuUfFL]{0,2}(?:"(?:[^"\\\n]|\\[\s\S])*"?|`(?:[^`\\]|\\[\s\S])*`?|\'(?:[^\'\\\n]|\\[\s\S])*\'))'
)
_OTHERS = r"|(?P<word>[^\W\d]\w*)|(?P<number>\d[\w.]*)|(?P<mark>->|=>|::|\*\*|//|<<|>>|&&|\|\||[-+*/%&|^<>=!]=|[^\w\s])"
_PYTHON = re.compile(r"(?P<comment>#[^\n]*)|" + _STRING + _OTHERS)
_BRACES = re.compile(r"(?P<comment>//[^\n]*|/\*[\s\S]*?(?:\*/|\Z))|" + _STRING + _OTHERS)
# Marks that reformatting adds and takes away. Of brackets, `[` alone is kept.
_LAYOUT = frozenset("(){};,\\'\"`") | {"->"}
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


def code_tokens(text: str, language: str) -> tuple[np.ndarray, np.ndarray]:
    """Token hashes uint64 [n], and how many tokens back the same name last stood, int64 [n]: 0 for what is no name or
    is one that a renaming leaves (after a dot, before a call), and n for a name's first place."""
    pattern = _PYTHON if language == "python" else _BRACES
    tokens: list[str] = []
    back: list[int] = []
    last: dict[str, int] = {}
    previous, names = "", len(text) + 1
    for match in pattern.finditer(text):
        kind, token = match.lastgroup, match[0]
        if kind in ("comment", "text"):
            continue
        if kind == "string":
            token = '"' + token.lstrip("rRbBuUfFL")[1:-1]
        elif kind == "mark" and token in _LAYOUT:
            previous = token
            continue
        name = kind == "word" and token not in _KEPT and previous != "."
        if name and text[match.end() : match.end() + 1] != "(":
            back.append(len(tokens) - last[token] if token in last else names)
            last[token] = len(tokens)
        else:
            back.append(0)
        tokens.append(token)
        previous = token
    return hashes_of(tokens), np.array(back, np.int64)


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
