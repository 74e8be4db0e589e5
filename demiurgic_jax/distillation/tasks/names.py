"""The names in code."""

import ast

from demiurgic_jax.curation.languages import language_named, syntax_tree_of
from demiurgic_jax.curation.python_code import syntax_tree

_IDENTIFIERS = ("identifier", "type_identifier", "field_identifier", "property_identifier", "namespace_identifier")


def names_in(code: str, language: str) -> set[str]:
    """Identifiers of `code` that a reader could not have used by chance."""
    names = _python_names(code) if language == "python" else _tree_names(code, language)
    return {name for name in names if len(name) > 2}


def _python_names(code: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(syntax_tree(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
    return names


def _tree_names(code: str, language: str) -> set[str]:
    stack = [syntax_tree_of(code.encode("utf-8", "surrogatepass"), language_named(language)).root_node]
    names: set[str] = set()
    while stack:
        node = stack.pop()
        stack.extend(node.children)
        if node.type in _IDENTIFIERS:
            names.add((node.text or b"").decode("utf-8", "replace"))
    return names
