"""Text from elsewhere to make shards of: JSON lines, Parquet files, any TensorFlow Datasets dataset."""

import glob
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.chat import encode_example
from demiurgic_jax.data.completer import Message
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class SourceConfig:
    """One source, and what its rows hold.

    Either `path` names files (a pattern or a folder; JSON lines, gzipped or not, or Parquet), or `tfds` a dataset
    as TensorFlow Datasets does (NAME/CONFIG:VERSION, with its `split` and, where it is not in the usual place,
    `data_dir`). Either the field `text` is learnt whole, or `completion` as the answer to `prompt`. `name` is
    that of the shard set, `task` "code" is what fill-in-the-middle may cut.
    """

    name: str
    path: str = ""
    tfds: str = ""
    split: str = "train"
    data_dir: str = ""
    text: str = "text"
    prompt: str = ""
    completion: str = ""
    task: str = "code"
    language: str = "python"
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise UserError(f"a source is called {self.name!r}: give it a name of letters, digits, - and _")
        if bool(self.path) == bool(self.tfds):
            raise UserError(f"source {self.name}: give either path (files) or tfds (a dataset's name)")
        if bool(self.prompt) != bool(self.completion):
            raise UserError(f"source {self.name}: prompt and completion go together; name the fields of both")


def source_files(source: SourceConfig) -> list[Path]:
    """The files of a source, sorted. Raises UserError when there is none or one is of an unknown kind."""
    folder = Path(source.path).expanduser()
    pattern = str(folder / "**" / "*") if folder.is_dir() else str(folder)
    files = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())
    if folder.is_dir():
        files = [path for path in files if path.name.endswith(SUFFIXES)]
    if not files:
        raise UserError(f"source {source.name}: no file is at {source.path}; give one, a pattern or a folder of them")
    for path in files:
        if not path.name.endswith(SUFFIXES):
            raise UserError(
                f"source {source.name}: {path} is none of {', '.join(SUFFIXES)}; convert it or leave it out"
            )
    return files


def source_digest(source: SourceConfig) -> str:
    """What decides the source's rows: SHA-256 (hex) of its files, or of the dataset's full name and sizes."""
    digest = hashlib.sha256()
    if source.tfds:
        info = _tfds_builder(source).info
        digest.update(json.dumps([info.full_name, info.splits[source.split].shard_lengths]).encode())
        digest.update(str(info.splits[source.split].num_bytes).encode())
        return digest.hexdigest()
    for path in source_files(source):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def source_documents(
    source: SourceConfig, tokenizer: Tokenizer, *, part: int = 0, num_parts: int = 1
) -> Iterator[Document]:
    """Every `num_parts`-th row from `part` on, as a document; empty texts are left out.

    A text ends with the tokenizer's end of text. Raises UserError naming file and row when a field is missing or is no
    text.
    """
    for number, (where, row) in enumerate(_rows(source)):
        if number % num_parts != part:
            continue
        key = f"{source.name}-{number}"
        if source.completion:
            prompt, completion = (_text(row(), name, where) for name in (source.prompt, source.completion))
            tokens, mask = encode_example(tokenizer, [Message("user", prompt)], completion)
            yield Document(key, source.language, source.task, tokens, mask, licence=source.licence)
        elif text := _text(row(), source.text, where):
            ids = np.array([*tokenizer.encode(text), tokenizer.special.eos], np.int32)
            yield Document(key, source.language, source.task, ids, licence=source.licence)


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        known = ", ".join(sorted(row))
        raise UserError(f"{where} has no text in its field {field!r}: name one of {known}, or mend the row")
    return value


def _rows(source: SourceConfig) -> Iterator[tuple[str, Callable[[], Mapping[str, Any]]]]:
    """Where each row is, and what parses it: most rows are another part's."""
    if source.tfds:
        import tensorflow_datasets as tfds

        dataset = _tfds_builder(source).as_dataset(split=source.split, shuffle_files=False)
        for number, row in enumerate(tfds.as_numpy(dataset)):
            yield f"row {number} of {source.tfds} ({source.split})", partial(dict, row)
        return
    for path in source_files(source):
        yield from _parquet_rows(path) if path.suffix == ".parquet" else _jsonl_rows(path)


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Callable[[], Mapping[str, Any]]]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path} line {number}"
            yield where, partial(_json_object, line, where)


def _json_object(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}): mend or remove the line") from error
    if not isinstance(row, dict):
        raise UserError(f"{where} is not a JSON object: mend or remove the line")
    return row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Callable[[], Mapping[str, Any]]]]:
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
        for batch in file.iter_batches(batch_size=1024):
            for at in range(len(batch)):
                yield f"{path} row {number}", partial(_parquet_row, batch, at)
                number += 1


def _parquet_row(batch: Any, at: int) -> Mapping[str, Any]:
    return batch.slice(at, 1).to_pylist()[0]


def _tfds_builder(source: SourceConfig) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(f"source {source.name} needs TensorFlow Datasets: pip install 'demiurgic_jax[tfds]'") from error
    where = Path(source.tfds).expanduser()
    try:
        if where.is_dir():
            builder = tfds.builder_from_directory(str(where))
        else:
            builder = tfds.builder(source.tfds, data_dir=source.data_dir or None)
            builder.download_and_prepare()
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"source {source.name}: there is no tfds={source.tfds!r} ({first_line}); check it") from error
    if source.split not in (splits := builder.info.splits):
        raise UserError(
            f"source {source.name}: {source.tfds} has no split {source.split!r}; it has {', '.join(splits)}"
        )
    return builder
