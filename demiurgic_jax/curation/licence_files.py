"""The licence of each file of a tree: its own notice, else what the nearest folder above it says."""

import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from demiurgic_jax.curation.licences import canonical_name, detect_licence

LICENCE_FILE = re.compile(
    r"^copyright$|^(?:un)?licen[cs]e(?:s)?(?:[._-].{1,40})?$|^copying(?:[._-].{1,40})?$|^mit-license(?:\..*)?$",
    re.IGNORECASE,
)
_CODE_SUFFIX = re.compile(r"\.(?:py|[cm]?[jt]sx?|go|rs|java|c|cc|cpp|h|hpp|json)$", re.IGNORECASE)
# Files in which a package's builder is told the licence.
_PACKAGE_FILES = {
    "package.json": re.compile(r'"license"\s*:\s*"([^"]{2,80})"'),
    "Cargo.toml": re.compile(r'^license\s*=\s*"([^"]{2,80})"', re.MULTILINE),
    "pyproject.toml": re.compile(r'^license\s*=\s*(?:\{\s*text\s*=\s*)?"([^"]{2,80})"', re.MULTILINE),
}
# Debian's copyright files name the licence of every file (format 1.0), by words of their own.
_DEBIAN_FILES = re.compile(r"^Files:[ \t]*\*[^\n]*\n(?:(?!\n)[\s\S])*?^License:[ \t]*([^\n]+)", re.MULTILINE)
_DEBIAN_NAMES = {
    "expat": "MIT",
    "boost-1.0": "BSL-1.0",
    "bsl-1": "BSL-1.0",
    "apache-2": "Apache-2.0",
    "python": "PSF-2.0",
}
_MAY_SAY = re.compile(r"(?i)licen[cs]|permission|redistribut|public domain|\b[al]?gpl")
# Enough for every notice that stands at the head of a file.
_HEAD_CHARACTERS = 4000
_MAX_BYTES = 200_000


def says_licence(name: str) -> bool:
    """Whether a file of this name may say the licence of its folder."""
    return name in _PACKAGE_FILES or bool(LICENCE_FILE.match(name) and not _CODE_SUFFIX.search(name))


class LicenceFolders:
    """Licences of the folders of one tree.

    `files` are the paths (forward slashes) for which `says_licence`, and `read` gives the bytes of one. In a folder
    with several licence files all of them hold (`A AND B`), except for the pairs that are offered as a choice by
    their names (LICENSE-MIT beside LICENSE-APACHE), and what a package file says is asked where there is none.
    """

    def __init__(self, files: Iterable[str], read: Callable[[str], bytes]):
        self._files: dict[str, list[str]] = {}
        for path in sorted(files):
            self._files.setdefault(str(PurePosixPath(path).parent), []).append(path)
        self._read = read
        self._known: dict[str, str | None] = {}

    def licence(self, path: str) -> str | None:
        """Of the nearest folder above `path` that says one."""
        for folder in PurePosixPath(path).parents:
            if (found := self._of(str(folder))) is not None:
                return found
        return None

    def _of(self, folder: str) -> str | None:
        if folder not in self._known:
            self._known[folder] = self._detect(self._files.get(folder, []))
        return self._known[folder]

    def _detect(self, paths: list[str]) -> str | None:
        package: str | None = None
        found: dict[str, str] = {}
        for path in paths:
            name = PurePosixPath(path).name
            text = self._read(path)[:_MAX_BYTES].decode("utf-8", "replace")
            if name in _PACKAGE_FILES:
                match = _PACKAGE_FILES[name].search(text)
                package = package or (match[1].replace("/", " OR ") if match else None)
            elif licence := debian_licence(text) or detect_licence(text):
                found[name] = licence
        if not found:
            return package
        names = sorted(set(found.values()))
        chosen = all(re.match(r"licen[cs]e[._-](?:mit|apache|bsd|unlicense|zlib|boost)", name, re.I) for name in found)
        return (" OR " if chosen else " AND ").join(names)


def debian_licence(text: str) -> str | None:
    """What a Debian copyright file says of `Files: *`, as an SPDX expression; None where it is none."""
    match = _DEBIAN_FILES.search(text)
    if match is None:
        return None
    terms = []
    for word in match[1].replace(",", " ").split():
        if word.lower() in ("and", "or"):
            terms.append(word.upper())
        elif word.lower() == "with":
            break
        else:
            plain = word.removesuffix("+")
            known = _DEBIAN_NAMES.get(plain.lower()) or re.sub(r"^(A?L?GPL)-(\d)$", r"\1-\2.0", plain)
            terms.append(canonical_name(known))
    return " ".join(terms) or None


def licence_in_head(text: str) -> str | None:
    """What the head of a source file says of its licence."""
    head = text[:_HEAD_CHARACTERS]
    return detect_licence(head) if _MAY_SAY.search(head) else None
