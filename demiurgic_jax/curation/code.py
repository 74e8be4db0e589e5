"""One interface to the seven languages: what parses, what begins a program, the definitions and the imports.

Python is read by Python's own compiler, which alone decides what is valid Python; the others by tree-sitter.
"""

from demiurgic_jax.curation import python_code
from demiurgic_jax.curation.definition import Definition, PieceKind
from demiurgic_jax.curation.languages import language_named
from demiurgic_jax.curation.tree_beginnings import begins_tree
from demiurgic_jax.curation.tree_definitions import tree_definitions, tree_imports
from demiurgic_jax.curation.tree_syntax import parses_tree


def parses(text: str, language: str, *, kind: PieceKind | None = None) -> bool:
    """Whether `text` is syntactically valid (an empty one is): a file, or with `kind` such a definition alone, a
    method without its class among them.

    tree-sitter's grammars take a little more than the compilers do, and of C++ macros are left out where it parses
    without them, for nothing has preprocessed it. Raises UserError for an unknown language.
    """
    if language == "python":
        return python_code.parses(text)
    known = language_named(language)
    before, after = known.method_frame if kind == "method" else ("", "")
    return parses_tree(before + text + after, known)


def begins_program(text: str, language: str, *, kind: PieceKind | None = None) -> bool:
    """Whether `text` parses or could be continued, from its last character, into a text that does.

    Exact for Python (see python_code). For the others "yes" is proven by a continuation that parses; "no" means that
    none of those tried does, which real code cut anywhere meets now and then (docs/data.md has the shares). Blank
    text begins nothing.
    """
    if language == "python":
        return python_code.begins_program(text)
    known = language_named(language)
    before, after = known.method_frame if kind == "method" else ("", "")
    return begins_tree(text, known, before, after)


def definitions(text: str, language: str) -> list[Definition]:
    """Functions, classes and methods of `text` that stand alone and parse, in the order of their lines.

    A Python text must be valid as a whole (SyntaxError otherwise); of the others a definition without a fault is cut
    from a text that has one elsewhere.
    """
    return python_code.definitions(text) if language == "python" else tree_definitions(text, language_named(language))


def imports(text: str, language: str) -> str:
    """The import statements at the top level of `text`, those of files beside it left out."""
    if language == "python":
        return python_code.top_level_imports(text)
    return tree_imports(text, language_named(language))
