"""What a function takes, read from its source in any of the seven languages."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

import tree_sitter

from demiurgic_jax.curation.languages import language_named, syntax_tree_of
from demiurgic_jax.curation.python_code import syntax_tree
from demiurgic_jax.distillation.tasks.plain_data import Plain, plain_type


@dataclass(frozen=True)
class Signature:
    """A function that can be called with plain data alone: `name`, as a call writes it, and its parameters."""

    name: str
    parameters: tuple[Plain, ...]


def signature_of(code: str, name: str, language: str) -> Signature | None:
    """The signature of the function `name` in `code`; None where it is not there, takes nothing, or takes more than
    plain data: objects, references that it writes to, itself a method of an object, any number of arguments."""
    named = _python_parameters(code, name) if language == "python" else _tree_parameters(code, name, language)
    if not named or len(named) > 6:
        return None
    plain = []
    for parameter, text in named:
        found = plain_type(text, language)
        if found is None:
            return None
        # Where no type is given, the name is what there is to guess from.
        plain.append(Plain("any", parameter) if found.kind == "any" else found)
    return Signature(name, tuple(plain))


def _python_parameters(code: str, name: str) -> list[tuple[str, str]] | None:
    """Names and types of the parameters that have no default."""
    try:
        found = [node for node in syntax_tree(code).body if isinstance(node, ast.FunctionDef) and node.name == name]
    except SyntaxError:
        return None
    if not found:
        return None
    arguments = found[-1].args
    required = [*arguments.posonlyargs, *arguments.args]
    required = required[: len(required) - len(arguments.defaults)]
    if any(default is None for default in arguments.kw_defaults):
        return None
    return [(each.arg, ast.unparse(each.annotation).strip("'\"") if each.annotation else "") for each in required]


def _tree_parameters(code: str, name: str, language: str) -> list[tuple[str, str]] | None:
    root = syntax_tree_of(code.encode("utf-8", "surrogatepass"), language_named(language)).root_node
    for node in _nodes(root):
        if node.type in _FUNCTIONS and _name(node) == name:
            return _parameters(node)
    return None


_FUNCTIONS = {
    "function_declaration", "function_item", "method_declaration", "function_definition", "variable_declarator",
}  # fmt: skip
# Their types are those of a whole family.
_GENERIC = {"template_declaration"}
_OPTIONAL = {"assignment_pattern", "optional_parameter", "optional_parameter_declaration"}
_PARAMETERS = {"identifier", "required_parameter", "parameter_declaration", "parameter", "formal_parameter"}


def _nodes(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        if node.type not in _GENERIC:
            stack.extend(reversed(node.children))


def _name(node: tree_sitter.Node) -> str:
    while node.type in ("function_definition", "reference_declarator", "pointer_declarator", "function_declarator"):
        inner = node.child_by_field_name("declarator") or next(
            (each for each in node.named_children if each.type == "function_declarator"), None
        )
        if inner is None:
            return ""
        node = inner
    found = node if node.type == "identifier" else node.child_by_field_name("name")
    return "" if found is None else _text(found)


def _parameters(node: tree_sitter.Node) -> list[tuple[str, str]] | None:
    function = node.child_by_field_name("value") if node.type == "variable_declarator" else node
    if function is None or any(child.type in ("async", "*") for child in function.children):
        return None
    if node.type == "method_declaration" and node.child_by_field_name("receiver") is not None:
        return None
    parameters = function.child_by_field_name("parameters")
    if parameters is None:
        declarator = next((each for each in _nodes(function) if each.type == "function_declarator"), None)
        parameters = declarator and declarator.child_by_field_name("parameters")
    if parameters is None:
        return None
    found: list[tuple[str, str]] = []
    for each in parameters.named_children:
        if each.type in _OPTIONAL or each.type == "comment":
            continue
        if each.type not in _PARAMETERS:
            return None
        names = each.children_by_field_name("name") or [each.child_by_field_name("pattern") or each]
        found += [(_text(name), _type(each)) for name in names]
    return found


def _type(parameter: tree_sitter.Node) -> str:
    if parameter.type == "identifier":
        return ""
    declarator = parameter.child_by_field_name("declarator")
    if declarator is not None:  # C++ writes a part of the type beside the name
        named = next((each for each in _nodes(declarator) if each.type == "identifier"), None)
        text = _text(parameter)
        if named is None:
            return text
        at = len(parameter.text[: named.start_byte - parameter.start_byte].decode())  # type: ignore[index]
        whole = text[:at] + text[at + len(_text(named)) :]
        # What is not constant and taken by reference is written to.
        return "&" + whole if "&" in whole and "const" not in whole else whole
    found = parameter.child_by_field_name("type")
    return "" if found is None else _text(found).removeprefix(":").strip()


def _text(node: tree_sitter.Node) -> str:
    return (node.text or b"").decode("utf-8", "surrogatepass")
