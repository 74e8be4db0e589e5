"""Source files of folders, git repositories and data sets, in an order that depends on nothing but their names."""

import hashlib
import os
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from demiurgic_jax.curation.git_repository import GitRepository
from demiurgic_jax.curation.licence_files import LicenceFolders, licence_in_head, says_licence
from demiurgic_jax.curation.licences import UNKNOWN, LicencePolicy
from demiurgic_jax.curation.recognition import language_by_name, language_of, may_be
from demiurgic_jax.curation.rows import ROW_SUFFIXES, CodeRow, LongRow, code_rows, rows_digest
from demiurgic_jax.curation.screening import decode, folder_reason, name_reason, text_reason
from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class SourceFile:
    """One readable file. `path` is relative to its source, with forward slashes; `licence` is an SPDX expression or
    "unknown"; `sha256` is of the file's bytes; `repository` says where it is from, as its source names it."""

    path: str
    text: str
    language: str
    licence: str
    sha256: str
    repository: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used, and why. `language` is what its name says, "" for none; `size` is in bytes; `text` is
    there where it was read."""

    path: str
    language: str
    size: int
    reason: str
    repository: str
    text: str = ""


@dataclass(frozen=True)
class CodeSource:
    """Where code is read from: one of `folder`, `folders`, `git`, `rows` and `tfds`.

    Each folder in `folders` is a repository of its own.

    `git` is a clone or an address, read at `commit` (for an address it must be given, for then the same code is read
    for ever). `rows` are JSON lines or Parquet files, a pattern or a folder of them, in the layout of The Stack;
    `tfds` is a dataset as TensorFlow Datasets names it, with its `split`. `columns` names their fields where they are
    called otherwise: {"text": …, "path": …, "repository": …, "licence": …}.

    `licence` is that of the code, for files that name none at their head; empty: what the source itself says of it
    (licence files, package files, a column).
    """

    folder: str = ""
    folders: str = ""
    git: str = ""
    commit: str = ""
    rows: str = ""
    tfds: str = ""
    split: str = "train"
    columns: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.folder, self.folders, self.git, self.rows, self.tfds))) != 1:
            raise UserError(f"source {self}: give exactly one of folder, folders, git, rows and tfds")

    @property
    def name(self) -> str:
        return self.folder or self.folders or self.git or self.rows or self.tfds

    @classmethod
    def of(cls, description: str | Mapping[str, Any]) -> "CodeSource":
        """From fields, or from one word: an address of a git repository, files of rows, else a folder."""
        if not isinstance(description, str):
            try:
                return cls(**description)
            except TypeError as error:
                raise UserError(f"source {dict(description)}: {error}; docs/data.md lists the fields") from error
        if "://" in description or description.endswith(".git"):
            address, _, commit = description.partition("#")
            return cls(git=address, commit=commit)
        if description.endswith(ROW_SUFFIXES):
            return cls(rows=description)
        return cls(folder=description)


def standard_library() -> tuple[Path, str]:
    """Folder and licence of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib")), "PSF-2.0"


def read_source(
    source: CodeSource,
    *,
    languages: Sequence[str] = ("python",),
    policy: LicencePolicy | None = None,
    max_bytes: int = 1 << 20,
    counts: Counter[str] | None = None,
    clones: Path | None = None,
) -> Iterator[SourceFile]:
    """Files of `source` in `languages`, sorted by path (rows: as they lie), those that `policy` refuses left out.

    Hidden, test, vendored, generated, minified, linked, binary and other unusable files are left out too. `counts`,
    where given, is filled with "read" and with the number of files (of folders: "folders: …") left out for each reason.
    Repositories at an address are cloned into the folder `clones`. Raises UserError where there is no such source.
    """
    counts = Counter() if counts is None else counts
    for file in screened(source, languages=languages, max_bytes=max_bytes, counts=counts, clones=clones):
        if isinstance(file, LeftOut):
            counts[file.reason] += 1
            continue
        refusal = policy.refusal(file.licence) if policy is not None else None
        counts[refusal or "read"] += 1
        if refusal is None:
            yield file


def screened(
    source: CodeSource,
    *,
    languages: Sequence[str],
    max_bytes: int = 1 << 20,
    counts: Counter[str] | None = None,
    clones: Path | None = None,
) -> Iterator[SourceFile | LeftOut]:
    """Files of `source` that may be in `languages`, the unusable ones among them with the reason; `counts` is given
    the links, and the folders that were not entered. A file of more than `max_bytes` is not opened."""
    wanted, counts = frozenset(languages), Counter() if counts is None else counts
    for each in repositories(source):
        if each.folder:
            yield from _screened_folder(each, wanted, max_bytes, counts)
        elif each.git:
            yield from _screened_git(each, GitRepository.open(each.git, each.commit, clones), wanted, max_bytes, counts)
        else:
            yield from _screened_rows(each, wanted, max_bytes)


def repositories(source: CodeSource) -> list[CodeSource]:
    """`source` itself, or of `folders` each; raises UserError where there is none."""
    if not source.folders:
        return [source]
    folder = _folder(source.folders)
    found = sorted(each for each in folder.iterdir() if each.is_dir() and folder_reason(each.name) is None)
    if not found:
        raise UserError(f"source folder {folder} holds no folders: each in it is taken for a repository")
    return [replace(source, folder=str(each), folders="") for each in found]


def source_digest(source: CodeSource, *, languages: Sequence[str] = ("python",), clones: Path | None = None) -> str:
    """SHA-256 (hex) that changes with the content of `source`."""
    digest, wanted = hashlib.sha256(), frozenset(languages)
    for each in repositories(source):
        if each.git:
            digest.update(GitRepository.open(each.git, each.commit, clones).commit.encode())
        elif each.folder:
            for name, path in _sorted_files(_folder(each.folder), Counter()):
                if may_be(name, wanted) or says_licence(path.name):
                    with path.open("rb") as file:
                        content = hashlib.file_digest(file, "sha256").hexdigest()
                    digest.update(f"{name}\0{content}\n".encode(errors="replace"))
        else:
            digest.update(rows_digest(each.rows, each.tfds, each.split).encode())
    return digest.hexdigest()


def read_folder(
    folder: str | Path,
    *,
    licence: str = "",
    languages: Sequence[str] = ("python",),
    max_bytes: int = 1 << 20,
    counts: Counter[str] | None = None,
) -> Iterator[SourceFile]:
    """`read_source` of a folder, under no policy. Links are not followed."""
    counts, source = Counter() if counts is None else counts, CodeSource(folder=str(folder), licence=licence)
    for file in screened(source, languages=languages, max_bytes=max_bytes, counts=counts):
        if isinstance(file, SourceFile):
            yield file
        else:
            counts[file.reason] += 1


def _screened_folder(
    source: CodeSource, languages: frozenset[str], max_bytes: int, counts: Counter[str]
) -> Iterator[SourceFile | LeftOut]:
    folder = _folder(source.folder)
    listed = dict(_sorted_files(folder, counts))
    files = {name: path.stat().st_size for name, path in listed.items()}

    def read(name: str) -> bytes:
        return listed[name].read_bytes()

    yield from _screened_tree(files, read, source, source.folder, _licence_above(folder), languages, max_bytes)


def _screened_git(
    source: CodeSource,
    repository: GitRepository,
    languages: frozenset[str],
    max_bytes: int,
    counts: Counter[str],
) -> Iterator[SourceFile | LeftOut]:
    with repository.reading() as read:
        objects = repository.files(counts)
        files = {path: size for path, (size, _) in objects.items()}
        name = f"{source.git}@{repository.commit}"
        yield from _screened_tree(files, lambda path: read(objects[path][1]), source, name, None, languages, max_bytes)


def _screened_tree(
    files: Mapping[str, int],
    read: Callable[[str], bytes],
    source: CodeSource,
    repository: str,
    above: str | None,
    languages: frozenset[str],
    max_bytes: int,
) -> Iterator[SourceFile | LeftOut]:
    """The wanted ones of `files` (path to size in bytes)."""
    licences = {path for path in files if says_licence(PurePosixPath(path).name)}
    folders = LicenceFolders((path for path in licences if files[path] <= max_bytes), read)
    for path in sorted(files, key=lambda path: PurePosixPath(path).parts):
        if path in licences or not may_be(path, languages):
            continue
        reason = name_reason(path) or ("too large" if files[path] > max_bytes else None)
        content = b"" if reason else read(path)
        file = _screened_file(path, content, files[path], reason, repository, languages)
        if isinstance(file, SourceFile):
            found = licence_in_head(file.text) or source.licence or folders.licence(path) or above or UNKNOWN
            yield replace(file, licence=found)
        elif file is not None:
            yield file


def _screened_rows(source: CodeSource, languages: frozenset[str], max_bytes: int) -> Iterator[SourceFile | LeftOut]:
    for row in code_rows(source.rows, source.tfds, source.split, source.columns):
        if isinstance(row, LongRow):
            yield LeftOut(row.where, "", row.size, "too large", source.name)
            continue
        if not may_be(row.path, languages):
            continue
        content = row.text.encode("utf-8", "surrogatepass")
        reason = name_reason(row.path) or ("too large" if len(content) > max_bytes else None)
        repository = row.repository or source.name
        file = _screened_file(row.path, content, len(content), reason, repository, languages)
        if isinstance(file, SourceFile):
            yield replace(file, licence=licence_in_head(file.text) or source.licence or _row_licence(row))
        elif file is not None:
            yield file


def _screened_file(
    path: str, content: bytes, size: int, reason: str | None, repository: str, languages: frozenset[str]
) -> SourceFile | LeftOut | None:
    """Without its licence yet; None for a file in other languages."""
    text, reason = ("", reason) if reason else decode(content)
    language = language_of(path, text)
    if not reason and language not in languages:
        return None
    if reason := reason or text_reason(text):
        named = language_by_name(path) or ""
        # Of what names no language only what was meant to be read is worth a word.
        return LeftOut(path, named, size, reason, repository, text) if named in languages else None
    assert language is not None
    return SourceFile(path, text, language, UNKNOWN, hashlib.sha256(content).hexdigest(), repository)


def _row_licence(row: CodeRow) -> str:
    """All that a row's repository was found to hold; any of them may be the file's."""
    return " AND ".join(sorted(set(row.licences))) or UNKNOWN


def _folder(folder: str | Path) -> Path:
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"source folder {folder} does not exist: set it to a folder of source code")
    return folder


def _sorted_files(folder: Path, counts: Counter[str]) -> Iterable[tuple[str, Path]]:
    """Regular files by name, relative to `folder`; folders that are left out and links are counted."""
    found = []
    for parent, folders, names in os.walk(folder):
        kept = []
        for name in folders:
            reason = "link" if Path(parent, name).is_symlink() else folder_reason(name)
            if reason:
                counts[f"folders: {reason}"] += 1
            else:
                kept.append(name)
        folders[:] = kept
        for name in names:
            path = Path(parent, name)
            if path.is_symlink():
                counts["link"] += 1
            elif path.is_file():
                found.append((path.relative_to(folder).as_posix(), path))
    return sorted(found, key=lambda each: PurePosixPath(each[0]).parts)


def _licence_above(folder: Path) -> str | None:
    """What the folders above say, up to the one that a repository begins at."""
    resolved = folder.resolve()
    if (resolved / ".git").exists():
        return None
    root = next((parent for parent in resolved.parents if (parent / ".git").exists()), None)
    if root is None:
        return None
    inside = [above for above in resolved.parents if above == root or root in above.parents]
    files = [
        path.relative_to(root).as_posix()
        for above in inside
        for path in above.iterdir()
        if path.is_file() and says_licence(path.name)
    ]
    here = (resolved / "file").relative_to(root).as_posix()
    return LicenceFolders(files, lambda name: (root / name).read_bytes()).licence(here)
