"""What Python code is: whether a text parses, whether it begins one that does, and the definitions in it."""

import ast
import keyword
import re
import textwrap
import threading
import warnings
from typing import Literal

from demiurgic_jax.curation.definition import Definition, PieceKind

# PyCF_ALLOW_INCOMPLETE_INPUT, which the codeop module uses too: a parse that fails only because the text ends says so.
_ALLOW_INCOMPLETE = 0x4000
_UNTERMINATED = re.compile(r"unterminated (triple-quoted )?f?-?string literal")
_LAST_WORD = re.compile(r"(?<!\w)[A-Za-z]+\Z")
# The interpreter's warning filters are one list for all threads.
_FILTERS = threading.Lock()
_KEYWORDS = (*keyword.kwlist, *keyword.softkwlist)


def parses(text: str) -> bool:
    """Whether `text` is a syntactically valid Python module (an empty one is)."""
    return _parse(text) == "whole"


def begins_program(text: str) -> bool:
    """Whether `text` parses or could be continued, from its last character, into a text that does.

    Nothing is dropped in order to say yes: a cut-off last line must itself be the beginning of a valid line (it may
    end inside a word, a string or a bracket). Blank text begins nothing.
    """
    if not text.strip():
        return False
    blank_line = text.rstrip(" \t")
    if blank_line.endswith("\n"):
        text = blank_line  # cut off inside an indent
    if parses(text) or _can_go_on(text):
        return True
    # The last token may itself be cut off: a name, a number, an operator of two characters, a keyword.
    longer = [text + more for more in (("_", "0") if text[-1].isalnum() else ("=",))]
    word = _LAST_WORD.search(text)
    if word:
        longer += [text[: word.start()] + known for known in _KEYWORDS if known.startswith(word[0])]
    return any(map(_can_go_on, longer))


def _can_go_on(text: str) -> bool:
    """Whether the parser reads to the end of `text` before it misses anything."""
    string = _unterminated_string(text)
    if string is None:
        return _parse(text) == "incomplete" or _reaches_end(text)
    # The parser must also want a string where this one begins ("It's" has one too), so close it and ask again.
    closed = [text + quote for quote in (('"""', "'''") if string == "long" else ("'", '"'))]
    return any(_unterminated_string(each) is None and _reaches_end(each) for each in closed)


def _reaches_end(text: str) -> bool:
    # After a line continuation, the parser asks for one more token: it finds either its first error or the end.
    return _parse(text + " \\\n") in ("whole", "incomplete")


def _parse(text: str) -> Literal["whole", "incomplete", "broken"]:
    try:
        syntax_tree(text, _ALLOW_INCOMPLETE)
    except SyntaxError as error:
        return "incomplete" if "incomplete input" in (error.msg or "") else "broken"
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return "broken"  # null bytes, nesting too deep: how the compiler refuses absurd input
    return "whole"


def _unterminated_string(text: str) -> Literal["long", "short"] | None:
    """Whether `text` ends inside a triple-quoted string, or inside another one that its last line opens."""
    try:
        syntax_tree(text)
    except SyntaxError as error:
        found = _UNTERMINATED.match(error.msg or "")
        if found and found[1]:
            return "long"
        return "short" if found and error.lineno == text.count("\n") + 1 else None
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return None
    return None


def syntax_tree(text: str, flags: int = 0) -> ast.Module:
    """`ast.parse` without a word on the text's own faults (invalid escapes and the like); raises what it raises."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = compile(text, "<text>", "exec", flags=ast.PyCF_ONLY_AST | flags, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def definitions(text: str) -> list[Definition]:
    """Top-level functions and classes of `text` and the methods of those classes, in the order of their lines."""
    lines = text.splitlines(keepends=True)
    found = []
    for node in syntax_tree(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(_definition("function", node.name, node, lines))
        elif isinstance(node, ast.ClassDef):
            found.append(_definition("class", node.name, node, lines))
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.append(_definition("method", f"{node.name}.{inner.name}", inner, lines))
    return [definition for definition in found if definition is not None]


def functions(text: str) -> list[Definition]:
    """The functions and methods among `definitions(text)`."""
    return [definition for definition in definitions(text) if definition.kind != "class"]


def top_level_imports(text: str) -> str:
    """The import statements at the top level of `text`, one a line, relative ones left out."""
    imports = [
        node
        for node in syntax_tree(text).body
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.level == 0)
    ]
    return "".join(ast.unparse(node) + "\n" for node in imports)


def _definition(
    kind: PieceKind,
    name: str,
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
    lines: list[str],
) -> Definition | None:
    """None where the lines of `node` do not stand alone: joined by semicolons, or with strings less indented."""
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    end = node.end_lineno or node.lineno
    code = textwrap.dedent("".join(lines[start - 1 : end])).rstrip() + "\n"
    try:
        alone = syntax_tree(code).body
    except SyntaxError:
        return None
    if len(alone) != 1:
        return None
    docstring = ast.get_docstring(node)
    first = _first_statement(node, docstring)
    first_alone = _first_statement(alone[0], docstring)
    decorators = getattr(first_alone, "decorator_list", [])
    at = (
        (decorators[0].lineno, decorators[0].col_offset - 1)
        if decorators
        else (first_alone.lineno, first_alone.col_offset)
    )
    return Definition(
        kind=kind,
        name=name,
        code=code,
        docstring=docstring,
        start_line=start,
        end_line=end,
        body_line=first.lineno - start,
        body_start=_offset(code, *at),
        body_end=len(code),
    )


def _first_statement(definition: ast.stmt, docstring: str | None) -> ast.stmt:
    assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    body = definition.body
    return body[1] if docstring is not None and len(body) > 1 else body[0]


def _offset(text: str, line: int, column: int) -> int:
    """Characters before line `line` (from 1) and byte `column` of `text`."""
    lines = text.split("\n")
    return sum(len(each) + 1 for each in lines[: line - 1]) + len(
        lines[line - 1].encode("utf-8", "surrogatepass")[:column].decode()
    )
