"""Seeds: pieces of real code from which tasks for the teacher are made."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from demiurgic_jax.curation.jsonl import read_jsonl, write_jsonl
from demiurgic_jax.curation.python_code import definitions, parses, top_level_imports
from demiurgic_jax.curation.sources import SourceFile
from demiurgic_jax.errors import UserError

Kind = Literal["function", "method", "class", "file"]


@dataclass(frozen=True)
class Seed:
    """One piece of code with its origin. `id` is the first 16 hex digits of the SHA-256 of `code`.

    `name` is qualified ("Class.method"), or the file's path for a whole file. `imports` are the file's absolute
    imports, which a piece needs to run by itself. `path` and `licence` are those of the file; `start_line` counts
    from 1.
    """

    id: str
    kind: Kind
    name: str
    language: str
    code: str
    docstring: str | None
    imports: str
    path: str
    start_line: int
    licence: str


def cut_seeds(
    files: Iterable[SourceFile],
    *,
    kinds: Sequence[Kind] = ("function", "method"),
    min_lines: int = 4,
    max_lines: int = 60,
) -> Iterator[Seed]:
    """Pieces of `files` of the wanted kinds and length, in the files' order; of equal pieces only the first.

    Files that do not parse give none. Raises UserError for an unknown kind.
    """
    for kind in kinds:
        if kind not in get_args(Kind):
            raise UserError(f"unknown kind of seed {kind!r}: choose among {', '.join(get_args(Kind))}")
    seen: set[str] = set()
    for file in files:
        for seed in _pieces(file):
            if seed.kind in kinds and min_lines <= seed.code.count("\n") <= max_lines and seed.id not in seen:
                seen.add(seed.id)
                yield seed


def is_heldout(path: str, fraction: float) -> bool:
    """Whether the source file `path` is among the held-out ones: a pure function of its name, so that training and
    held-out pieces never share a file."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def write_seeds(path: str | Path, seeds: Iterable[Seed]) -> int:
    """Writes seeds as JSON lines, atomically; returns their number."""
    return write_jsonl(path, (asdict(seed) for seed in seeds))


def read_seeds(path: str | Path) -> list[Seed]:
    """Raises UserError naming file and line for rows of another shape."""
    names = {field.name for field in fields(Seed)}
    seeds = []
    for number, row in read_jsonl(path):
        if row.keys() != names:
            wrong = ", ".join(sorted(row.keys() ^ names))
            raise UserError(f"{path} line {number} is not a seed (fields {wrong}): remove the file and cut seeds again")
        seeds.append(Seed(**row))
    return seeds


def _pieces(file: SourceFile) -> Iterator[Seed]:
    if not parses(file.text):
        return
    imports = top_level_imports(file.text)
    yield _seed(file, "file", file.path, file.text, None, "", 1)
    for found in definitions(file.text):
        yield _seed(file, found.kind, found.name, found.code, found.docstring, imports, found.start_line)


def _seed(
    file: SourceFile, kind: Kind, name: str, code: str, docstring: str | None, imports: str, start_line: int
) -> Seed:
    digest = hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()
    return Seed(
        id=digest[:16],
        kind=kind,
        name=name,
        language=file.language,
        code=code,
        docstring=docstring,
        imports=imports,
        path=file.path,
        start_line=start_line,
        licence=file.licence,
    )
