"""Which language a file is in, by its name and by what it says.

Names decide, but for those that several languages share (`.h`, `.ts`) and for files without a suffix, whose first line
may say it (`#!/usr/bin/env python3`, `-*- C++ -*-`). The seven languages of `languages` can be parsed; the others here
are known by name alone.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.errors import UserError

OTHER_LANGUAGES: dict[str, tuple[str, ...]] = {
    "c": (".c",),
    "c-sharp": (".cs",),
    "css": (".css", ".scss", ".less"),
    "dart": (".dart",),
    "elixir": (".ex", ".exs"),
    "erlang": (".erl", ".hrl"),
    "fortran": (".f90", ".f95", ".f03"),
    "haskell": (".hs",),
    "html": (".html", ".htm"),
    "julia": (".jl",),
    "kotlin": (".kt", ".kts"),
    "lua": (".lua",),
    "markdown": (".md", ".markdown"),
    "ocaml": (".ml", ".mli"),
    "perl": (".pl", ".pm"),
    "php": (".php",),
    "r": (".r",),
    "ruby": (".rb",),
    "scala": (".scala",),
    "shell": (".sh", ".bash"),
    "sql": (".sql",),
    "swift": (".swift",),
    "toml": (".toml",),
    "yaml": (".yaml", ".yml"),
    "zig": (".zig",),
}
KNOWN_LANGUAGES = (*LANGUAGES, *OTHER_LANGUAGES)

_BY_SUFFIX = {suffix: language.name for language in LANGUAGES.values() for suffix in language.suffixes}
_BY_SUFFIX |= {suffix: name for name, suffixes in OTHER_LANGUAGES.items() for suffix in suffixes}
_INTERPRETERS = {
    **{"python": "python", "node": "javascript", "nodejs": "javascript", "deno": "typescript", "bun": "typescript"},
    **{"ts-node": "typescript", "tsx": "typescript", "bash": "shell", "sh": "shell", "dash": "shell", "zsh": "shell"},
    **{"perl": "perl", "ruby": "ruby", "php": "php", "lua": "lua", "Rscript": "r", "julia": "julia"},
}
_SHEBANG = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-S\s+)?(?:\w+=\S+\s+)*)?(?:\S*/)?([A-Za-z-]+)[\d.]*(?:\s|$)")
# A header called .h may be C. Words that C has no use for, or no place for at the start of a line:
_CPP_ONLY = re.compile(
    r"^\s*(?:template\s*<|namespace\b|class\s+\w|using\s+(?:namespace\b|\w+\s*=)|(?:public|private|protected)\s*:)"
    r"|\b(?:std::|static_cast<|constexpr\b|nullptr\b)",
    re.MULTILINE,
)
# Headers of standard libraries have no suffix at all, but editors are told what they are.
_CPP_MODE_LINE = re.compile(r"-\*-\s*(?:mode:\s*)?c\+\+", re.IGNORECASE)
# Qt keeps translations in .ts files.
_XML = re.compile(r"\s*<(?:\?xml|!DOCTYPE)\b")


def require_known(names: Iterable[str]) -> tuple[str, ...]:
    """The names. Raises UserError for one of no known language, and for none."""
    names = tuple(names)
    if not names:
        raise UserError("no language is named: name one at least, e.g. python")
    for name in names:
        if name not in KNOWN_LANGUAGES:
            raise UserError(f"language {name!r} is unknown: choose among {', '.join(KNOWN_LANGUAGES)}")
    return names


def language_by_name(path: str) -> str | None:
    """What a file's name says; of a `.h` file that it is C++ or C is not known yet, and "cpp" is said."""
    return _BY_SUFFIX.get(PurePosixPath(path).suffix.lower())


def may_be(path: str, languages: frozenset[str]) -> bool:
    """Whether the file at `path` can turn out to be in one of `languages` when it is read."""
    suffix = PurePosixPath(path).suffix.lower()
    return not suffix or _BY_SUFFIX.get(suffix) in languages or (suffix == ".h" and "c" in languages)


def language_of(path: str, text: str) -> str | None:
    """The language of a file, one of KNOWN_LANGUAGES.

    A `.h` file is C++ where it says something that C cannot (a class, a template, a namespace, `std::`), else C. A
    `.ts` file that begins as XML is a translation of Qt's. A file without a suffix is what its first line tells the
    system or an editor.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".h":
        return "cpp" if _CPP_ONLY.search(text) or _CPP_MODE_LINE.search(text, 0, 200) else "c"
    if suffix == ".ts" and _XML.match(text):
        return None
    if not suffix:
        first = text[:200].split("\n", 1)[0]
        if shebang := _SHEBANG.match(first):
            return _INTERPRETERS.get(shebang[1])
        return "cpp" if _CPP_MODE_LINE.search(first) else None
    return _BY_SUFFIX.get(suffix)
