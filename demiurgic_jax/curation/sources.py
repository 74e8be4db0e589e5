"""Source files of a folder, in an order that depends on nothing but their names."""

import hashlib
import os
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from demiurgic_jax.errors import UserError

_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "testing", "__pycache__", "site-packages", "node_modules"})


@dataclass(frozen=True)
class SourceFile:
    """One readable file. `path` is relative to its folder, with forward slashes; `sha256` is of the file's bytes."""

    path: str
    text: str
    language: str
    licence: str
    sha256: str


def read_folder(
    folder: str | Path,
    *,
    licence: str,
    language: str = "python",
    suffixes: Sequence[str] = (".py",),
    max_bytes: int = 1 << 20,
    counts: Counter[str] | None = None,
) -> Iterator[SourceFile]:
    """Files of `folder` sorted by path; tests, caches, installed packages, links and hidden folders are left out.

    `counts`, where given, is filled with "read" and with the number of files skipped for each reason ("empty",
    "too large", "not UTF-8"). Line ends become "\\n". Raises UserError where `folder` is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"source folder {folder} does not exist: set it to a folder of source code")
    counts = Counter() if counts is None else counts
    for path in _sorted_files(folder, tuple(suffixes)):
        content = path.read_bytes() if path.stat().st_size <= max_bytes else None
        if content is None:
            counts["too large"] += 1
            continue
        try:
            text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            counts["not UTF-8"] += 1
            continue
        if not text.strip():
            counts["empty"] += 1
            continue
        counts["read"] += 1
        name = path.relative_to(folder).as_posix()
        yield SourceFile(name, text, language, licence, hashlib.sha256(content).hexdigest())


def standard_library() -> tuple[Path, str]:
    """Folder and licence of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib")), "PSF-2.0"


def _sorted_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith(".")]
        paths = (Path(parent, name) for name in names if name.endswith(suffixes))
        found += [path for path in paths if not path.is_symlink()]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)
