"""Exact duplicates, of all repositories at once: texts that differ in nothing but blanks.

`MarkExact` leaves a hash and the document's id in the task's file, `FindExact`, one task, those ids of each part that
are not the smallest of their text, `DropExact` leaves them out. What is kept depends on nothing but the documents.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from demiurgic_jax.curation.corpus.block import CorpusBlock
from demiurgic_jax.curation.corpus.reading import share

_MARK = np.dtype([("text", "<u8"), ("id", "<u8"), ("part", "<u4")])


def text_hash(text: str) -> int:
    """Of the text without its blanks, 64 bits."""
    joined = "".join(text.split())
    return int.from_bytes(sha256(joined.encode("utf-8", "surrogatepass")).digest()[:8], "little")


class MarkExact(CorpusBlock):
    """Writes `marks`/RANK.npy."""

    name = "marking"

    def __init__(self, marks: Path, parts: int, samples: Path):
        super().__init__(samples)
        self.marks, self.parts = Path(marks), parts
        self._found: list[tuple[int, int, int]] = []

    def refusal(self, document: Document) -> str | None:
        part = share(document.metadata["repository"], self.parts)
        self._found.append((text_hash(document.text), int(document.id, 16), part))
        document.metadata["part"] = f"{part:05d}"
        return None

    def end(self, rank: int) -> None:
        self.marks.mkdir(parents=True, exist_ok=True)
        np.save(self.marks / f"{rank:05d}.npy", np.array(self._found, _MARK))


class FindExact(PipelineStep):
    """From `marks` to `duplicates`/PART.npy: sorted ids (uint64) of the documents to leave out."""

    type, name = "corpus", "finding exact duplicates"

    def __init__(self, marks: Path, duplicates: Path, parts: int):
        super().__init__()
        self.marks, self.duplicates, self.parts = Path(marks), Path(duplicates), parts

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        marks = np.concatenate([np.load(path) for path in sorted(self.marks.glob("*.npy"))])
        marks = marks[np.lexsort((marks["id"], marks["text"]))]
        later = np.concatenate([[False], marks["text"][1:] == marks["text"][:-1]]) if len(marks) else np.zeros(0, bool)
        self.duplicates.mkdir(parents=True, exist_ok=True)
        for part in range(self.parts):
            ids = np.sort(marks["id"][later & (marks["part"] == part)])
            np.save(self.duplicates / f"{part:05d}.npy", ids)
        return iter(())


class DropExact(CorpusBlock):
    """Leaves out what `FindExact` found in the part that is the task's."""

    name = "exact duplicates"

    def __init__(self, duplicates: Path, samples: Path):
        super().__init__(samples)
        self.duplicates = Path(duplicates)
        self._ids: frozenset[int] = frozenset()

    def begin(self, rank: int) -> None:
        self._ids = frozenset(map(int, np.load(self.duplicates / f"{rank:05d}.npy")))

    def refusal(self, document: Document) -> str | None:
        return "exact duplicate" if int(document.id, 16) in self._ids else None
