"""What can be seen in an answer without running it."""

import ast
import re
from collections import Counter

from demiurgic_jax.curation.python_code import parses, syntax_tree

_FENCE = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def fenced(code: str) -> str:
    """`code` as a Markdown block."""
    return f"```python\n{code.rstrip()}\n```"


def code_in(text: str) -> str | None:
    """The first fenced block of `text` (to the end where the fence is not closed), or all of it if it is Python."""
    block = _FENCE.search(text)
    if block:
        return block[1]
    return text if text.strip() and parses(text) else None


def prose_in(text: str) -> str:
    """`text` without its fenced blocks."""
    return _FENCE.sub("", text).strip()


def repeats_itself(text: str) -> bool:
    """Whether one line makes up most of a text of some length: what small models do when they lose the thread."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return len(lines) >= 6 and Counter(lines).most_common(1)[0][1] * 2 > len(lines)


def function_named(code: str, name: str) -> FunctionNode | None:
    """The top-level function `name` of `code`, the last one where there are several. Raises SyntaxError."""
    found = [node for node in syntax_tree(code).body if isinstance(node, FunctionNode) and node.name == name]
    return found[-1] if found else None


def without_docstring(node: FunctionNode) -> list[ast.stmt]:
    """The statements of the body, its docstring left out."""
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def is_stub(node: FunctionNode) -> bool:
    """Whether the body does nothing: only `pass`, `...`, a docstring or `raise NotImplementedError`."""
    return all(
        isinstance(statement, ast.Pass)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        or (isinstance(statement, ast.Raise) and "NotImplementedError" in ast.dump(statement))
        for statement in node.body
    )


def same_function(one: FunctionNode, other: FunctionNode) -> bool:
    """Whether two functions are the same code, whatever their layout, comments and docstrings."""

    def shape(node: FunctionNode) -> list[str]:
        return [type(node).__name__, ast.dump(node.args), *map(ast.dump, without_docstring(node))]

    return shape(one) == shape(other)


def size(node: FunctionNode) -> int:
    """Number of syntax nodes, the docstring left out."""
    return sum(1 for statement in without_docstring(node) for _ in ast.walk(statement))
