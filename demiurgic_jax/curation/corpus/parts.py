"""Documents between two stages: a folder of zstd-compressed JSON lines for each part, read and written by datatrove."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.logging import logger
from fsspec.compression import register_compression

SUFFIX = ".jsonl.zst"
# It names each file that it opens on the console.
logger.disable("datatrove.pipeline.readers")


# fsspec's own level, 10, takes longer than all that is done with the documents.
_LEVEL, _COMPRESSION = 2, "zstd-fast"


def _fast_zstd(file: Any, mode: str = "rb") -> Any:
    if "r" in mode:
        return zstandard.ZstdDecompressor().stream_reader(file)
    return zstandard.ZstdCompressor(level=_LEVEL).stream_writer(file)


register_compression(_COMPRESSION, _fast_zstd, [], force=True)


class _Writer(JsonlWriter):
    """A class of this module, so that whoever unpickles it has the compression registered."""


def write_parts(folder: Path) -> Any:
    """`folder`/PART/RANK.jsonl.zst: each document to the part that its metadata names."""
    return _Writer(str(folder), "${part}/${rank}" + SUFFIX, compression=_COMPRESSION)


def write_ranks(folder: Path) -> Any:
    """`folder`/RANK.jsonl.zst."""
    return _Writer(str(folder), "${rank}" + SUFFIX, compression=_COMPRESSION)


def write_splits(folder: Path) -> Any:
    """`folder`/SPLIT/RANK.jsonl.zst: each document to the split that its metadata names."""
    return _Writer(str(folder), "${split}/${rank}" + SUFFIX, compression=_COMPRESSION)


class ReadPart(PipelineStep):
    """The documents of the part that is the task's, in the order of repository and path, whichever task wrote them; a
    part is held in memory, so there should be so many tasks that it fits."""

    type, name = "corpus", "reading a part"

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = Path(folder)

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        part = self.folder / f"{rank:05d}"
        documents = list(_read(part, f"*{SUFFIX}")) if part.is_dir() else []
        yield from sorted(documents, key=lambda each: (each.metadata["repository"], each.metadata["path"].split("/")))


class ReadRank(PipelineStep):
    """What the task of the same number wrote, as it was written."""

    type, name = "corpus", "reading"

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = Path(folder)

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        yield from read_rank(self.folder, rank)


def read_rank(folder: Path, rank: int) -> Iterator[Document]:
    """Of `folder`/RANK.jsonl.zst; nothing where there is no such file."""
    name = f"{rank:05d}{SUFFIX}"
    if (folder / name).is_file():
        yield from _read(folder, name)


def _read(folder: Path, pattern: str) -> Iterator[Document]:
    reader = JsonlReader(str(folder), compression="zstd", glob_pattern=pattern, recursive=False, add_file_path=False)
    yield from reader.run(None, 0, 1)
