"""What the corpus' own datatrove blocks have in common: they count what they keep and drop, by language and reason, and
keep a few of the dropped for eyes."""

import json
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from hashlib import sha256
from heapq import nsmallest
from pathlib import Path
from typing import Any

from demiurgic_jax.errors import UserError

try:
    from datatrove.data import Document
    from datatrove.pipeline.base import PipelineStep
except ImportError as error:
    raise UserError("a corpus is made with datatrove: pip install 'demiurgic_jax[corpus]'") from error

# Of each language and reason a task keeps so many, each cut at so many characters.
SAMPLES, SAMPLE_CHARACTERS = 3, 3000
KEPT, DROPPED, CPU = "kept", "dropped", "cpu seconds"


def document(text: str, repository: str, path: str, language: str, licence: str, size: int) -> Document:
    """A file on its way: `size` is that of the raw file in bytes, which the funnel counts to the end."""
    key = sha256(f"{repository}\0{path}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    metadata: dict[str, Any] = {"repository": _plain(repository), "path": _plain(path)}
    metadata |= {"language": language, "licence": licence, "bytes": size}
    return Document(text=text, id=key, metadata=metadata)


def _plain(name: str) -> str:
    """A file's name may hold bytes that are no UTF-8."""
    return name.encode("utf-8", "replace").decode()


class CorpusBlock(PipelineStep):
    """A block that passes documents on, some of them changed, and leaves others out.

    `samples`: folder for WHAT_IT_IS/RANK.jsonl with samples of the dropped.
    """

    type = "corpus"
    name = ""

    def __init__(self, samples: Path):
        super().__init__()
        self.samples = Path(samples)
        self._dropped: dict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = {}
        self._cpu = 0.0

    @abstractmethod
    def refusal(self, document: Document) -> str | None:
        """Why the document is left out; None where it goes on. May change it."""

    def begin(self, rank: int) -> None:
        """Called before the first document of a task."""

    def end(self, rank: int) -> None:
        """Called after the last one."""

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        self.begin(rank)
        for each in data:
            started = time.thread_time()
            with self.track_time():
                reason = self.refusal(each)
            self._cpu += time.thread_time() - started
            if reason is None:
                self.count(KEPT, each.metadata["language"], "", each.metadata["bytes"])
                yield each
            else:
                self.drop(each, reason)
        self.end(rank)
        self.finish(rank)

    def count(self, outcome: str, language: str, reason: str, size: int) -> None:
        """One document of `size` bytes, into datatrove's statistics."""
        self.stat_update("/".join((outcome, language, reason)), value=size)

    def drop(self, each: Document, reason: str) -> None:
        language = each.metadata["language"]
        self.count(DROPPED, language, reason, each.metadata["bytes"])
        row = {**each.metadata, "reason": reason, "block": self.name, "text": each.text[:SAMPLE_CHARACTERS]}
        kept = self._dropped.setdefault((language, reason), [])
        kept.append((each.id, row))
        if len(kept) > 8 * SAMPLES:
            kept[:] = nsmallest(SAMPLES, kept, key=lambda pair: pair[0])

    def finish(self, rank: int) -> None:
        """Writes the samples and the processor's time."""
        self.stat_update(CPU, value=self._cpu, unit="task")
        folder = self.samples / self.name.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{rank:05d}.jsonl").open("w", encoding="utf-8", errors="surrogatepass") as file:
            for _, kept in sorted(self._dropped.items()):
                for _, row in nsmallest(SAMPLES, kept, key=lambda pair: pair[0]):
                    file.write(json.dumps(row) + "\n")
