"""Code as rows of a data set: JSON lines, Parquet files in the layout of The Stack, TensorFlow Datasets."""

import glob
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demiurgic_jax.errors import UserError

ROW_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

# Bytes of a line of JSON. What is longer is passed over piece by piece.
_LONGEST_ROW = 1 << 24

# The names that The Stack (v1, v2), GitHub's dump and CodeParrot give to the same things.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("content", "text", "code"),
    "path": ("max_stars_repo_path", "path", "file_path", "filename"),
    "repository": ("max_stars_repo_name", "repository_name", "repo_name", "repo"),
    "licence": ("max_stars_repo_licenses", "detected_licenses", "licenses", "license"),
}


@dataclass(frozen=True)
class CodeRow:
    """One file of a data set. `licences` are SPDX identifiers as its makers found them in the repository."""

    text: str
    path: str
    repository: str
    licences: tuple[str, ...]


@dataclass(frozen=True)
class LongRow:
    """A row of more bytes than are read."""

    where: str
    size: int


def code_rows(rows: str, tfds: str, split: str, columns: Mapping[str, str]) -> Iterator[CodeRow | LongRow]:
    """Every row of the files at `rows` or of the dataset `tfds`, in order. Raises UserError naming file and row where
    a field is missing."""
    if unknown := sorted(set(columns) - set(_COLUMNS)):
        raise UserError(f"columns of {rows or tfds} name {unknown[0]!r}: choose among {', '.join(_COLUMNS)}")
    for where, row in _tfds_rows(tfds, split) if tfds else _file_rows(rows):
        if isinstance(row, LongRow):
            yield row
            continue
        text, path = _value(row, "text", columns, where), _value(row, "path", columns, where)
        repository = _value(row, "repository", columns, where, optional=True)
        licences = _value(row, "licence", columns, where, optional=True)
        if not isinstance(text, str) or not isinstance(path, str):
            raise UserError(f"{where}: its text and its path must be text; name other columns")
        named = licences if isinstance(licences, Sequence) and not isinstance(licences, str) else [licences]
        yield CodeRow(text, path, str(repository or ""), tuple(str(each) for each in named if each))


def rows_digest(rows: str, tfds: str, split: str) -> str:
    """SHA-256 (hex) of the files, or of the dataset's full name and sizes."""
    digest = hashlib.sha256()
    if tfds:
        info = _tfds_builder(tfds, split).info
        digest.update(json.dumps([info.full_name, split, info.splits[split].shard_lengths]).encode())
        return digest.hexdigest()
    for path in row_files(rows):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _value(row: Mapping[str, Any], name: str, columns: Mapping[str, str], where: str, optional: bool = False) -> Any:
    candidates = (columns[name],) if name in columns else _COLUMNS[name]
    for column in candidates:
        if column in row:
            value = row[column]
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if optional and name not in columns:
        return None
    raise UserError(
        f"{where} has none of the fields {', '.join(candidates)}: set columns[{name!r}] to one of "
        f"{', '.join(sorted(row))}"
    )


def row_files(rows: str) -> list[Path]:
    """Files at a path, a pattern or in a folder, sorted. Raises UserError where there is none."""
    at = Path(rows).expanduser()
    pattern = str(at / "**" / "*") if at.is_dir() else str(at)
    files = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())
    files = [path for path in files if path.name.endswith(ROW_SUFFIXES)]
    if not files:
        raise UserError(f"source {rows} has no file that ends with {', '.join(ROW_SUFFIXES)}: give one, or a folder")
    return files


def _file_rows(rows: str) -> Iterator[tuple[str, Mapping[str, Any] | LongRow]]:
    for path in row_files(rows):
        yield from _parquet_rows(path) if path.suffix == ".parquet" else _jsonl_rows(path)


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | LongRow]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST_ROW):
            number += 1
            where = f"{path} line {number}"
            if len(line) == _LONGEST_ROW and not line.endswith(b"\n"):
                size = len(line)
                while (more := file.readline(_LONGEST_ROW)) and not more.endswith(b"\n"):
                    size += len(more)
                yield where, LongRow(where, size + len(more))
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{where} is not JSON ({error}): mend or remove the line") from error
            if not isinstance(row, dict):
                raise UserError(f"{where} is not a JSON object: mend or remove the line")
            yield where, row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{path} needs pyarrow: pip install 'demiurgic_jax[parquet]'") from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise UserError(f"{path} is no Parquet file or is damaged ({error}); restore or remove it") from error
    with file:
        number = 0
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                yield f"{path} row {number}", row
                number += 1


def _tfds_rows(name: str, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    builder = _tfds_builder(name, split)
    import tensorflow_datasets as tfds

    for number, row in enumerate(tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))):
        yield f"row {number} of {name} ({split})", {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    listed = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(listed, list):
        return [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in listed]
    return listed


def _tfds_builder(name: str, split: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(f"source {name} needs TensorFlow Datasets: pip install 'demiurgic_jax[tfds]'") from error
    at = Path(name).expanduser()
    try:
        if at.is_dir():
            builder = tfds.builder_from_directory(str(at))
        else:
            builder = tfds.builder(name)
            builder.download_and_prepare()
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"there is no dataset {name!r} ({first_line}); check its name") from error
    if split not in builder.info.splits:
        raise UserError(f"{name} has no split {split!r}; it has {', '.join(builder.info.splits)}")
    return builder
