"""Languages by the names of their files, and as Markdown tags them."""

from pathlib import Path
from typing import NamedTuple

from demiurgic_jax.errors import UserError


class Language(NamedTuple):
    """A language as a sentence calls it, and as a fenced block is tagged, first the tag that students know."""

    name: str
    tags: tuple[str, ...]


# The first seven are those that students are trained on.
_TABLE: tuple[tuple[str, str, str], ...] = (
    ("Python", "python py python3 pyi", ".py .pyi .pyw"),
    ("JavaScript", "javascript js node jsx mjs", ".js .mjs .cjs .jsx"),
    ("TypeScript", "typescript ts tsx", ".ts .mts .cts .tsx"),
    ("Go", "go golang", ".go"),
    ("Rust", "rust rs", ".rs"),
    ("Java", "java", ".java"),
    ("C++", "cpp c++ cxx cc hpp", ".cpp .cc .cxx .hpp .hh .hxx"),
    ("C", "c h", ".c .h"),
    ("C#", "csharp cs c#", ".cs"),
    ("Ruby", "ruby rb", ".rb"),
    ("PHP", "php", ".php"),
    ("Swift", "swift", ".swift"),
    ("Kotlin", "kotlin kt", ".kt .kts"),
    ("Scala", "scala", ".scala"),
    ("shell", "bash sh shell zsh", ".sh .bash .zsh"),
    ("Lua", "lua", ".lua"),
    ("Perl", "perl pl", ".pl .pm"),
    ("R", "r", ".r .R"),
    ("Julia", "julia jl", ".jl"),
    ("Haskell", "haskell hs", ".hs"),
    ("Elixir", "elixir ex", ".ex .exs"),
    ("Dart", "dart", ".dart"),
    ("Zig", "zig", ".zig"),
    ("SQL", "sql", ".sql"),
    ("HTML", "html", ".html .htm"),
    ("CSS", "css", ".css"),
    ("YAML", "yaml yml", ".yaml .yml"),
    ("TOML", "toml", ".toml"),
    ("JSON", "json", ".json"),
    ("Markdown", "markdown md", ".md"),
)
LANGUAGES = tuple(Language(name, tuple(tags.split())) for name, tags, _ in _TABLE)
UNKNOWN = Language("", ("",))
_BY_SUFFIX = {suffix: LANGUAGES[i] for i, row in enumerate(_TABLE) for suffix in row[2].split()}
_BY_WORD = {word.lower(): each for each in reversed(LANGUAGES) for word in (each.name, *each.tags)}


def language_of_file(path: Path) -> Language:
    """By the file's suffix; UNKNOWN where that says nothing."""
    return _BY_SUFFIX.get(path.suffix, UNKNOWN)


def language_called(word: str) -> Language:
    """By name or tag, in any case. Raises UserError for a word that is none."""
    if (found := _BY_WORD.get(word.lower())) is None:
        names = ", ".join(each.tags[0] for each in LANGUAGES)
        raise UserError(f"{word!r} is no language that is known here: give one of {names}")
    return found
