"""Seeds: pieces of real code from which tasks for the teacher are made."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from demiurgic_jax.curation.code import definitions, imports, parses
from demiurgic_jax.curation.decontamination import Benchmarks
from demiurgic_jax.curation.definition import PieceKind
from demiurgic_jax.curation.jsonl import read_jsonl, write_jsonl
from demiurgic_jax.curation.near_duplicates import MinHashConfig, NearDuplicates
from demiurgic_jax.curation.secrets import redact
from demiurgic_jax.curation.sources import SourceFile
from demiurgic_jax.errors import UserError

Kind = Literal["function", "method", "class", "file"]


@dataclass(frozen=True)
class Seed:
    """One piece of code with its origin. `id` is the first 16 hex digits of the SHA-256 of the piece as its file has
    it; `code` is without secrets and personal data.

    `name` is qualified ("Class.method"), or the file's path for a whole file. `imports` are the file's imports, but for
    those of files beside it, which a piece needs to run by itself. `path`, `licence` and `file_sha256` (of its bytes)
    are those of the file, `repository` is where it is from; `start_line` counts from 1.
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
    repository: str = ""
    file_sha256: str = ""


def cut_seeds(
    files: Iterable[SourceFile],
    *,
    kinds: Sequence[Kind] = ("function", "method"),
    min_lines: int = 4,
    max_lines: int = 60,
) -> Iterator[Seed]:
    """Pieces of `files` of the wanted kinds and length, in the files' order; of equal pieces only the first.

    A Python file that does not parse gives none; of another language, the definitions without a fault. Raises
    UserError for an unknown kind.
    """
    for kind in kinds:
        if kind not in get_args(Kind):
            raise UserError(f"unknown kind of seed {kind!r}: choose among {', '.join(get_args(Kind))}")
    seen: set[str] = set()
    for file in files:
        for seed in _pieces(file, kinds):
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


def without_near_duplicates(
    seeds: Iterable[Seed], config: MinHashConfig, counts: Counter[str] | None = None
) -> Iterator[Seed]:
    """Seeds that are no near-duplicates of an earlier one of the like kind; the others are counted as
    "near-duplicate"."""
    known = {kind: NearDuplicates(config) for kind in ("piece", "class", "file")}
    for seed in seeds:
        index = known[seed.kind if seed.kind in known else "piece"]
        if index.earlier(seed.id, seed.code) is None:
            yield seed
        elif counts is not None:
            counts["near-duplicate"] += 1


def without_benchmarks(
    seeds: Iterable[Seed], benchmarks: Benchmarks, counts: Counter[str] | None = None
) -> Iterator[Seed]:
    """Seeds that are no copies of a benchmark's problem; the others are counted as "benchmark problem"."""
    for seed in seeds:
        if benchmarks.match(seed.code, seed.language) is None:
            yield seed
        elif counts is not None:
            counts["benchmark problem"] += 1


def redacted(
    seeds: Iterable[Seed], kinds: Sequence[str], counts: Counter[str] | None = None, found: Counter[str] | None = None
) -> Iterator[Seed]:
    """Seeds with placeholders for secrets and personal data (see secrets.KINDS) in code, docstring and imports.

    Those that parse no more are left out and counted as "not parsing when redacted". `found` is given the number of
    redacted places of each kind.
    """
    for seed in seeds:
        changed = replace(
            seed,
            code=redact(seed.code, kinds, found),
            docstring=None if seed.docstring is None else redact(seed.docstring, kinds),
            imports=redact(seed.imports, kinds),
        )
        if changed.code == seed.code or parses(changed.code, seed.language, kind=_piece_kind(seed.kind)):
            yield changed
        elif counts is not None:
            counts["not parsing when redacted"] += 1


def _piece_kind(kind: Kind) -> PieceKind | None:
    return None if kind == "file" else kind


def _pieces(file: SourceFile, kinds: Sequence[Kind]) -> Iterator[Seed]:
    whole = parses(file.text, file.language)
    if whole and "file" in kinds:
        yield _seed(file, "file", file.path, file.text, None, "", 1)
    if set(kinds) == {"file"} or (not whole and file.language == "python"):
        return
    needed = imports(file.text, file.language)
    for found in definitions(file.text, file.language):
        yield _seed(file, found.kind, found.name, found.code, found.docstring, needed, found.start_line)


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
        repository=file.repository,
        file_sha256=file.sha256,
    )
