"""Functions as what they do: without layout, comments and documentation, in any of the seven languages."""

import ast
import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

import tree_sitter

from demiurgic_jax.curation.code import definitions
from demiurgic_jax.curation.definition import Definition
from demiurgic_jax.curation.languages import is_comment, language_named, syntax_tree_of
from demiurgic_jax.curation.python_code import syntax_tree
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.answers import same_name
from demiurgic_jax.distillation.tasks.behaviour import last_name

# What decides between ways, by the text of its token.
_BRANCHES = frozenset(("if", "for", "while", "case", "catch", "match", "loop", "switch", "&&", "||", "?", "select"))
_PYTHON_BRANCHES = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.match_case, ast.comprehension)
_NOT_DONE = ("unimplemented", "todo", "not implemented", "notimplemented", "unsupportedoperation")


@dataclass(frozen=True)
class Function:
    """`head` is what callers see, `shape` is all of it; two functions of the same shape are the same code.

    `size` counts the syntax nodes of the body, `branches` its decisions. A `stub` does nothing.
    """

    name: str
    code: str
    head: Hashable
    shape: Hashable
    size: int
    branches: int
    stub: bool


def function_named(code: str, name: str, language: str = "python") -> Function | None:
    """The function or method `name` of `code`, however it is qualified, the last one where there are several. Raises
    SyntaxError for Python that is not valid."""
    return _last(code, language, lambda found: found == last_name(name))


def function_like(code: str, language: str, name: str) -> Function | None:
    """The function of `code` that is called `name` in the manner of some language: `word_count`, `WordCount`."""
    return _last(code, language, lambda found: same_name(found, name))


def first_line(seed: Seed) -> str:
    """The line of the code that names the function."""
    name = last_name(seed.name)
    lines = seed.code.splitlines()
    return next((line.strip() for line in lines if re.search(rf"\b{re.escape(name)}\b.*\(", line)), lines[0].strip())


def _last(code: str, language: str, wanted: Callable[[str], bool]) -> Function | None:
    if language == "python":
        # A syntax tree of its own, since a definition may stand where its lines alone do not.
        nodes = [node for node in syntax_tree(code).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        nodes = [node for node in nodes if wanted(node.name)]
        return _python_function(nodes[-1]) if nodes else None
    found = definitions(code, language)
    if not found and language == "java":
        found = definitions(f"class Solution {{\n{code}\n}}\n", language)
    named = [each for each in found if each.kind != "class" and wanted(last_name(each.name))]
    return _tree_function(named[-1], language) if named else None


def _python_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    within = [inner for statement in body for inner in ast.walk(statement)]
    head = (type(node).__name__, ast.dump(node.args))
    branches = sum(isinstance(each, _PYTHON_BRANCHES) for each in within)
    branches += sum(len(each.values) - 1 for each in within if isinstance(each, ast.BoolOp))
    stub = all(
        isinstance(statement, ast.Pass)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        or (isinstance(statement, ast.Raise) and "NotImplementedError" in ast.dump(statement))
        for statement in node.body
    )
    return Function(
        node.name, ast.unparse(node), head, (*head, *map(ast.dump, body)), len(within), branches, stub
    )  # fmt: skip


def _tree_function(found: Definition, language: str) -> Function:
    known = language_named(language)
    before = known.method_frame[0] if found.kind == "method" and language != "go" else ""
    source = (before + found.code + (known.method_frame[1] if before else "")).encode("utf-8", "surrogatepass")
    body_at = len((before + found.code[: found.body_start]).encode("utf-8", "surrogatepass"))
    body_end = len((before + found.code[: found.body_end]).encode("utf-8", "surrogatepass"))
    leaves = [leaf for leaf in _leaves(syntax_tree_of(source, known).root_node) if leaf.end_byte > leaf.start_byte]
    texts = [(leaf.text or b"").decode("utf-8", "replace") for leaf in leaves]
    head = tuple(text for leaf, text in zip(leaves, texts, strict=True) if leaf.start_byte < body_at)
    body = tuple(
        text for leaf, text in zip(leaves, texts, strict=True) if body_at <= leaf.start_byte < body_end and text != ";"
    )
    whole = " ".join(body).lower()
    stub = not body or (len(body) < 16 and any(word in whole for word in _NOT_DONE))
    branches = sum(text in _BRANCHES for text in body)
    return Function(last_name(found.name), found.code, head, (head, body), len(body), branches, stub)


def _leaves(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    if is_comment(node):
        return
    # A text is one leaf: its pieces have no nodes of their own in some grammars.
    if not node.child_count or ("string" in node.type and node.type != "template_string"):
        yield node
    else:
        for child in node.children:
            yield from _leaves(child)
