"""The seven languages that are parsed: their files' names, their grammars, and what a definition is in each."""

import importlib
import threading
from dataclasses import dataclass
from functools import cache

from demiurgic_jax.errors import UserError

try:
    import tree_sitter
except ImportError as error:
    raise UserError("source code is cut with tree-sitter: pip install 'demiurgic_jax[corpus]'") from error


@dataclass(frozen=True)
class Language:
    """One language. The sets hold node types of its tree-sitter grammar.

    `grammars` are (module, function) pairs that give the compiled grammar; of several, a text is of the language when
    one of them takes it. `wrappers` stand around a definition and belong to its source (`export`, `template <…>`);
    `scopes` hold definitions and name them (a namespace, a module); `groups` hold definitions and do not (`#ifdef`).
    `attributes` stand before a definition as its siblings. `method_frame` is what a method must stand in to parse.
    """

    name: str
    suffixes: tuple[str, ...]
    grammars: tuple[tuple[str, str], ...]
    functions: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    wrappers: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    strings: frozenset[str] = frozenset()
    separator: str = "."
    method_frame: tuple[str, str] = ("", "")


_COMMENTS = ("comment", "line_comment", "block_comment")
_JS_FUNCTIONS = frozenset({"function_declaration", "generator_function_declaration", "method_definition"})
_JS_IMPORTS = frozenset({"import_statement"})
_JS_STRINGS = frozenset({"template_string"})

LANGUAGES: dict[str, Language] = {
    language.name: language
    for language in (
        Language("python", (".py",), ()),  # python_code.py reads it
        Language(
            "javascript",
            (".js", ".mjs", ".cjs", ".jsx"),
            (("tree_sitter_javascript", "language"),),
            functions=_JS_FUNCTIONS,
            classes=frozenset({"class_declaration"}),
            wrappers=frozenset({"export_statement"}),
            attributes=frozenset({"decorator"}),
            imports=_JS_IMPORTS,
            strings=_JS_STRINGS,
            method_frame=("class C {\n", "\n}\n"),
        ),
        Language(
            "typescript",
            (".ts", ".mts", ".cts", ".tsx"),
            (("tree_sitter_typescript", "language_typescript"), ("tree_sitter_typescript", "language_tsx")),
            functions=_JS_FUNCTIONS,
            classes=frozenset(
                {"class_declaration", "abstract_class_declaration", "interface_declaration", "enum_declaration"}
            ),
            wrappers=frozenset({"export_statement", "ambient_declaration"}),
            scopes=frozenset({"internal_module", "module"}),
            groups=frozenset({"expression_statement"}),
            attributes=frozenset({"decorator"}),
            imports=_JS_IMPORTS,
            strings=_JS_STRINGS,
            method_frame=("class C {\n", "\n}\n"),
        ),
        Language(
            "go",
            (".go",),
            (("tree_sitter_go", "language"),),
            functions=frozenset({"function_declaration", "method_declaration"}),
            classes=frozenset({"type_declaration"}),
            imports=frozenset({"import_declaration"}),
            strings=frozenset({"raw_string_literal"}),
        ),
        Language(
            "rust",
            (".rs",),
            (("tree_sitter_rust", "language"),),
            functions=frozenset({"function_item"}),
            classes=frozenset({"struct_item", "enum_item", "union_item", "trait_item", "impl_item"}),
            scopes=frozenset({"mod_item"}),
            attributes=frozenset({"attribute_item"}),
            imports=frozenset({"use_declaration"}),
            strings=frozenset({"string_literal", "raw_string_literal"}),
            separator="::",
        ),
        Language(
            "java",
            (".java",),
            (("tree_sitter_java", "language"),),
            functions=frozenset({"method_declaration", "constructor_declaration"}),
            classes=frozenset({"class_declaration", "interface_declaration", "enum_declaration", "record_declaration"}),
            groups=frozenset({"enum_body_declarations"}),
            imports=frozenset({"import_declaration"}),
            strings=frozenset({"string_literal"}),
            method_frame=("class C {\n", "\n}\n"),
        ),
        Language(
            "cpp",
            (".cc", ".cpp", ".cxx", ".c++", ".hpp", ".hh", ".hxx", ".h++", ".ipp", ".inl", ".tcc", ".tpp", ".h"),
            (("tree_sitter_cpp", "language"),),
            functions=frozenset({"function_definition"}),
            classes=frozenset({"class_specifier", "struct_specifier", "union_specifier", "enum_specifier"}),
            wrappers=frozenset({"template_declaration"}),
            scopes=frozenset({"namespace_definition"}),
            groups=frozenset(
                {"linkage_specification", "preproc_if", "preproc_ifdef", "preproc_else", "preproc_elif"}
                | {"declaration_list"}
            ),
            imports=frozenset({"preproc_include"}),
            strings=frozenset({"raw_string_literal"}),
            separator="::",
            method_frame=("class C {\n", "\n};\n"),
        ),
    )
}


def language_named(name: str) -> Language:
    """Raises UserError for an unknown name."""
    if name not in LANGUAGES:
        raise UserError(f"language {name!r} is unknown: choose among {', '.join(LANGUAGES)}")
    return LANGUAGES[name]


@cache
def _grammar(module: str, function: str) -> tree_sitter.Language:
    return tree_sitter.Language(getattr(importlib.import_module(module), function)())


class _Parsers(threading.local):
    """A parser is no thing for two threads."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], tree_sitter.Parser] = {}

    def of(self, grammar: tuple[str, str]) -> tree_sitter.Parser:
        if grammar not in self.known:
            self.known[grammar] = tree_sitter.Parser(_grammar(*grammar))
        return self.known[grammar]


_PARSERS = _Parsers()


def syntax_tree_of(source: bytes, language: Language) -> tree_sitter.Tree:
    """The tree of UTF-8 `source`: of several grammars that of the first without an error, else the first's."""
    first = None
    for grammar in language.grammars:
        tree = _PARSERS.of(grammar).parse(source)
        if not tree.root_node.has_error:
            return tree
        first = first or tree
    assert first is not None
    return first


def is_comment(node: tree_sitter.Node) -> bool:
    return node.type in _COMMENTS
