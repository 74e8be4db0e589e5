"""A definition cut from source code, in any language."""

from dataclasses import dataclass
from typing import Literal

PieceKind = Literal["function", "method", "class"]


@dataclass(frozen=True)
class Definition:
    """A function, method or class (interfaces, structs, enums, traits and their implementations are classes).

    `code` is its exact source with the common indent removed: decorators, attributes and the comment directly above it
    included, where the language writes its documentation there. `name` is qualified in the language's own way
    ("Class.method", "Type::method"). Lines count from 1, the end line is the last one.

    `docstring` is its documentation without comment marks. `body_line` is the number of lines of `code` before the
    first statement after the docstring. `code[body_start:body_end]` (characters) is the body alone: what stands between
    the braces, or, in Python, the statements after the docstring; both are `len(code)` where there is none.
    """

    kind: PieceKind
    name: str
    code: str
    docstring: str | None
    start_line: int
    end_line: int
    body_line: int
    body_start: int
    body_end: int
