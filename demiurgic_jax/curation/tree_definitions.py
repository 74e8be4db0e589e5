"""Definitions in the languages that tree-sitter reads for us (all but Python)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import tree_sitter

from demiurgic_jax.curation.definition import Definition, PieceKind
from demiurgic_jax.curation.languages import Language, is_comment
from demiurgic_jax.curation.tree_syntax import parse, parses_tree

_FUNCTION_VALUES = frozenset({"arrow_function", "function_expression", "generator_function"})
_DECLARATORS = frozenset(
    {"function_declarator", "pointer_declarator", "reference_declarator", "parenthesized_declarator"}
)
_COMMENT_MARKS = re.compile(r"^[ \t]*(?://[/!]?|/\*[*!]?|\*(?!/))[ \t]?|[ \t]*\*/[ \t]*$", re.MULTILINE)
_RELATIVE = {
    "javascript": re.compile(r"""['"]\.{1,2}/"""),
    "typescript": re.compile(r"""['"]\.{1,2}/"""),
    "rust": re.compile(r"^(?:pub(?:\([^)]*\))?\s+)?use\s+(?:crate|self|super)\b"),
    "cpp": re.compile(r'^#\s*include\s*"'),
}


@dataclass(frozen=True)
class _Found:
    """`outer` is what is cut, `node` the definition in it, `name` qualified."""

    kind: PieceKind
    name: str
    outer: tree_sitter.Node
    node: tree_sitter.Node


def tree_definitions(text: str, language: Language) -> list[Definition]:
    """Functions and classes of `text` and the methods of those classes, in the order of their lines.

    Those with a syntax error in them, or that do not stand alone, are left out; others of the same text are not.
    """
    source = text.encode("utf-8", "replace")
    parsed = parse(source, language)
    found = _walk(parsed.root, language, (), False)
    cut = (_cut(each, source, parsed.read, language) for each in found if not each.outer.has_error)
    return [definition for definition in cut if definition is not None]


def tree_imports(text: str, language: Language) -> str:
    """The imports at the top level of `text`, one after the other, those of files beside it left out."""
    source = text.encode("utf-8", "replace")
    relative = _RELATIVE.get(language.name)
    statements = []
    for node in parse(source, language).root.children:
        statement = _text(node).strip()
        wanted = node.type in language.imports or (language.name == "javascript" and _requires(node))
        if wanted and not node.has_error and not (relative and relative.search(statement)):
            statements.append(statement + "\n")
    return "".join(statements)


def count_definitions(text: str, language: Language) -> tuple[int, int]:
    """How many definitions `text` holds, and how many of them have a syntax error in them."""
    found = list(_walk(parse(text.encode("utf-8", "replace"), language).root, language, (), False))
    return len(found), sum(each.outer.has_error for each in found)


def _walk(node: tree_sitter.Node, language: Language, scope: tuple[str, ...], in_class: bool) -> Iterator[_Found]:
    for child in node.named_children:
        inner = _unwrapped(child, language)
        if inner.type in language.functions or (function := _assigned_function(inner)) is not None:
            named = inner if inner.type in language.functions else function
            assert named is not None
            name = _name(named, language)
            if name and _body(inner) is not None:
                kind: PieceKind = "method" if in_class or inner.type == "method_declaration" else "function"
                yield _Found(kind, language.separator.join((*scope, name)), child, inner)
        elif inner.type in language.classes:
            name, body = _name(inner, language), _body(inner)
            if name and body is not None:
                yield _Found("class", language.separator.join((*scope, name)), child, inner)
                yield from _walk(body, language, (*scope, name), True)
        elif inner.type in language.scopes:
            body = inner.child_by_field_name("body")
            if body is not None:
                name = _name(inner, language)
                yield from _walk(body, language, (*scope, name) if name else scope, in_class)
        elif inner.type in language.groups or inner.type == "ERROR":
            yield from _walk(inner, language, scope, in_class)


def _unwrapped(node: tree_sitter.Node, language: Language) -> tree_sitter.Node:
    while node.type in language.wrappers:
        inner = node.child_by_field_name("declaration") or node.child_by_field_name("value")
        if inner is None:
            definitions = language.functions | language.classes | language.wrappers
            inner = next((child for child in node.named_children if child.type in definitions), None)
        if inner is None:
            return node
        node = inner
    return node


def _assigned_function(node: tree_sitter.Node) -> tree_sitter.Node | None:
    """The declarator or assignment that names a function value: `const f = () => …`, `exports.f = function …`."""
    if node.type in ("lexical_declaration", "variable_declaration"):
        declarators = [child for child in node.named_children if child.type == "variable_declarator"]
        value = declarators[0].child_by_field_name("value") if len(declarators) == 1 else None
        return declarators[0] if value is not None and value.type in _FUNCTION_VALUES else None
    if node.type == "expression_statement" and node.named_child_count == 1:
        inner = node.named_children[0]
        right = inner.child_by_field_name("right") if inner.type == "assignment_expression" else None
        return inner if right is not None and right.type in _FUNCTION_VALUES else None
    return None


def _name(node: tree_sitter.Node, language: Language) -> str:
    if node.type == "impl_item":
        of, trait = node.child_by_field_name("type"), node.child_by_field_name("trait")
        return f"<{_text(of)} as {_text(trait)}>" if of and trait else _text(of)
    if node.type == "type_declaration":
        specs = [child for child in node.named_children if child.type == "type_spec"]
        return _text(specs[0].child_by_field_name("name")) if len(specs) == 1 else ""
    if node.type == "function_definition":
        declarator = node.child_by_field_name("declarator")
        while declarator is not None and declarator.type in _DECLARATORS:
            inside = declarator.child_by_field_name("declarator")
            # A reference's declarator is its only child and has no name in the grammar.
            declarator = inside or next(iter(declarator.named_children), None)
        return _text(declarator)
    name = _text(node.child_by_field_name("name") or node.child_by_field_name("left"))
    receiver = node.child_by_field_name("receiver")
    if language.name == "go" and receiver is not None:
        typed = re.search(r"(\w+)\s*(?:\[[^\]]*\])?\s*\)$", _text(receiver))
        return f"{typed[1]}.{name}" if typed else name
    return name


def _body(node: tree_sitter.Node) -> tree_sitter.Node | None:
    """The node between whose braces a definition's body stands."""
    body = node.child_by_field_name("body")
    if body is not None:
        return body if body.type not in ("default_method_clause", "delete_method_clause") else None
    if node.type == "type_declaration":
        spec = next((child for child in node.named_children if child.type == "type_spec"), None)
        of = spec.child_by_field_name("type") if spec is not None else None
        if of is None or of.type not in ("struct_type", "interface_type"):
            return None
        return next((child for child in of.named_children if child.type == "field_declaration_list"), of)
    assigned = _assigned_function(node)
    if assigned is not None:
        value = assigned.child_by_field_name("value") or assigned.child_by_field_name("right")
        return value.child_by_field_name("body") if value is not None else None
    return None


def _cut(found: _Found, source: bytes, read: bytes, language: Language) -> Definition | None:
    """None where the lines do not stand alone."""
    first, comments = found.outer, list[str]()
    while (before := first.prev_sibling) is not None and _belongs(before, first, language):
        if is_comment(before):
            comments.insert(0, _text(before))
        first = before
    start = read.rfind(b"\n", 0, first.start_byte) + 1
    if read[start : first.start_byte].strip():
        return None  # something else begins on the same line
    # Lines of macros directly above, which the parser did not see, belong to it.
    while (above := read.rfind(b"\n", 0, max(start - 1, 0)) + 1) < start and not read[above:start].strip():
        if not source[above:start].strip():
            break
        start = above
    indent = len(source[start:]) - len(source[start:].lstrip(b" \t"))
    end = found.outer.end_byte
    # A class or an assignment may end with a semicolon that is no part of its node.
    after = source[end : end + 1]
    if after == b";":
        end += 1
    code, shift = _without_indent(source, start, indent, end, _kept_rows(found.outer, language))
    frame = language.method_frame if found.kind == "method" else ("", "")
    if not parses_tree(frame[0] + code + frame[1], language):
        return None
    body = _body(found.node)
    assert body is not None
    braces = source[body.start_byte : body.start_byte + 1] == b"{"
    body_start = shift(body.start_byte + braces)
    body_end = max(shift(body.end_byte - braces), body_start)
    statement = next((child for child in body.named_children if not is_comment(child)), body) if braces else body
    return Definition(
        kind=found.kind,
        name=found.name,
        code=code,
        docstring=_docstring(comments),
        start_line=source.count(b"\n", 0, start) + 1,
        end_line=source.count(b"\n", 0, end) + 1,
        body_line=source.count(b"\n", start, statement.start_byte),
        body_start=body_start,
        body_end=body_end,
    )


def _belongs(before: tree_sitter.Node, node: tree_sitter.Node, language: Language) -> bool:
    """Whether `before` is an attribute or a comment directly above `node` (no blank line, nothing beside it)."""
    if not (is_comment(before) or before.type in language.attributes) or before.has_error:
        return False
    # A line comment of some grammars ends with its line break.
    last = before.end_point.row - (before.end_point.column == 0)
    if node.start_point.row - last > 1:
        return False
    sibling = before.prev_sibling
    return sibling is None or sibling.end_point.row < before.start_point.row or sibling.end_point.column == 0


def _kept_rows(node: tree_sitter.Node, language: Language) -> frozenset[int]:
    """Rows that begin inside a string, whose indent is part of it."""
    rows: set[int] = set()
    cursor = [node]
    while cursor:
        each = cursor.pop()
        if each.start_point.row == each.end_point.row:
            continue
        if each.type in language.strings:
            rows.update(range(each.start_point.row + 1, each.end_point.row + 1))
        else:
            cursor.extend(each.named_children)
    return frozenset(rows)


def _without_indent(
    source: bytes, start: int, indent: int, end: int, kept: frozenset[int]
) -> tuple[str, Callable[[int], int]]:
    """The code from `start` to `end`, at most `indent` blanks less on each line, and what turns a byte offset of
    `source` into a character offset of that code."""
    row = source.count(b"\n", 0, start)
    starts: list[tuple[int, int, int]] = []  # of each line: first byte kept, first byte, characters before it
    lines: list[str] = []
    position, characters = start, 0
    while position < end:
        stop = source.find(b"\n", position, end) + 1 or end
        first = position
        if row not in kept:
            blanks = stop - position - len(source[position:stop].lstrip(b" \t"))
            first += min(indent, blanks)
        line = source[first:stop].decode("utf-8", "replace")
        starts.append((first, position, characters))
        lines.append(line)
        characters += len(line)
        position, row = stop, row + 1
    code = "".join(lines) + "\n"

    def shift(offset: int) -> int:
        first, _, before = next(each for each in reversed(starts) if each[1] <= offset)
        return before + len(source[first : max(offset, first)].decode("utf-8", "replace"))

    return code, shift


def _docstring(comments: list[str]) -> str | None:
    text = "\n".join(_COMMENT_MARKS.sub("", comment).strip("\n") for comment in comments).strip()
    return text or None


def _requires(node: tree_sitter.Node) -> bool:
    return node.type in ("lexical_declaration", "variable_declaration") and b"require(" in (node.text or b"")[:500]


def _text(node: tree_sitter.Node | None) -> str:
    return (node.text or b"").decode("utf-8", "replace") if node is not None else ""
