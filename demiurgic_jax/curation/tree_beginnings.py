"""Whether a text is the beginning of a valid one, in a language that tree-sitter reads.

A continuation is looked for: an end for the string or comment that the text may stop in, a filler for the expression
that it may stop before, and the brackets that it leaves open. A continuation that parses proves the answer.
"""

from collections.abc import Iterator

import tree_sitter

from demiurgic_jax.curation.languages import Language
from demiurgic_jax.curation.tree_syntax import parse, parses_tree

_CLOSING = {"(": ")", "[": "]", "{": "}", "${": "}", "#[": "]", "[[": "]]"}
_CLOSERS = frozenset(_CLOSING.values())
# What may end a string or comment that the text stops in, the likeliest first.
_ENDS = {
    "javascript": ("", "\n", '"', "'", "`", "*/", "/"),
    "typescript": ("", "\n", '"', "'", "`", "*/", "/"),
    "go": ("", "\n", '"', "`", "'", "*/"),
    "rust": ("", "\n", '"', "*/", "'", '"#'),
    "java": ("", "\n", '"', '"""', "'", "*/"),
    "cpp": ("", "\n", '"', "'", "*/", ')"'),
}
# What may complete the innermost statement before its brackets are closed.
_FILLERS = {
    "javascript": ("", "x", " x", ": x", "() {}", "=> x", " {}", "= x", "x: x", "x from 'x'", "catch {}", "while (x)"),
    "typescript": ("", "x", " x", ": x", "() {}", "=> x", " {}", "= x", "x: x", "x from 'x'", "catch {}", ": x = x"),
    "go": ("", "x", " x", " x x", "()", "{}", " {}", ":= x", "= x", ": x", "x: x", "1", "case x:", "x()"),
    "rust": ("", "x", " x", ";", "x;", " {}", "x {}", ": x", "=> x", "= x;", " x = x;", "x: x", "() {}", "!()", ": x;"),
    "java": ("", "x;", ";", " x;", "x", "() {}", " {}", "x() {}", "= x;", ": x;", "-> x;", "catch (X x) {}",
             "while (x);"),
    "cpp": ("", ";", "x;", " x;", "x", " {}", "() {}", "= x;", ": x;", "x() {}", "while (x);", "x: x;",
            "catch (...) {}"),
}  # fmt: skip
# Behind the closed brackets: a statement may go on after them (`if (` … `)` `{}`).
_AFTER = {
    "javascript": ("", " {}", " => x"),
    "typescript": ("", " {}", " => x"),
    "go": ("", " {}"),
    "rust": ("", ";", " {}"),
    "java": ("", ";", " {}"),
    "cpp": ("", ";", " {}", " x;"),
}


def begins_tree(text: str, language: Language, before: str = "", after: str = "") -> bool:
    """Whether some continuation of `text`, with `before` and `after` around it, was found that parses."""
    if not text.strip() or "\0" in text:
        return False
    text = before + text
    if parses_tree(text + after, language):
        return True
    return any(parses_tree(each + after, language) for each in _continuations(text, language, len(before)))


def _continuations(text: str, language: Language, frame: int) -> Iterator[str]:
    for end in _ENDS[language.name]:
        closed = text + end
        opened = _open_brackets(closed, language)
        if frame and opened:
            opened = opened[1:]  # the class around a method is closed by what stands behind it
        for filler in _FILLERS[language.name]:
            for following in _AFTER[language.name] if opened else ("",):
                yield closed + filler + _closing(opened, following)


def _closing(opened: list[str], following: str) -> str:
    """Closes `opened` from the innermost on; `following` goes behind the last before a brace."""
    text = ""
    for number, bracket in enumerate(reversed(opened), start=1):
        text += _CLOSING[bracket]
        if bracket != "{" and (number == len(opened) or opened[-number - 1] == "{"):
            text += following
    return text


def _open_brackets(text: str, language: Language) -> list[str]:
    """Brackets that `text` leaves open, outermost first, as the parser's tokens have them."""
    opened: list[str] = []
    for leaf in _leaves(parse(text.encode("utf-8", "replace"), language).root):
        kind = leaf.type
        if leaf.is_missing:
            continue
        if kind in _CLOSING:
            opened.append(kind)
        elif kind in _CLOSERS and opened and _CLOSING[opened[-1]] == kind:
            opened.pop()
    return opened


def _leaves(root: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    cursor = root.walk()
    while True:
        if cursor.goto_first_child():
            continue
        node = cursor.node
        assert node is not None
        yield node
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return
