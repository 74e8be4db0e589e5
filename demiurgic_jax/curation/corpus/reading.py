"""The first block: files of repositories and data sets, screened, as documents."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from datatrove.data import Document

from demiurgic_jax.curation.corpus.block import KEPT, CorpusBlock, document
from demiurgic_jax.curation.licences import LicencePolicy
from demiurgic_jax.curation.rows import row_files
from demiurgic_jax.curation.sources import CodeSource, LeftOut, repositories, screened


def units(sources: Sequence[CodeSource]) -> list[CodeSource]:
    """What one task reads without another: repositories, and files of rows."""
    found: list[CodeSource] = []
    for source in sources:
        for each in repositories(source):
            if each.rows:
                found += [_only(each, path) for path in row_files(each.rows)]
            else:
                found.append(each)
    return found


def _only(source: CodeSource, path: Path) -> CodeSource:
    return CodeSource(**{**vars(source), "rows": str(path)})


def share(name: str, parts: int) -> int:
    """The part, 0 to `parts` - 1, that everything of the repository `name` goes to."""
    return int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "little") % parts


class ReadCode(CorpusBlock):
    """Documents of those of `sources` that fall to the task, under `policy`.

    What names, sizes, bytes and the policy refuse is counted with its reason. Repositories at an address are cloned
    into `clones`.
    """

    name = "reading"

    def __init__(
        self,
        sources: Sequence[CodeSource],
        languages: Sequence[str],
        policy: LicencePolicy,
        max_bytes: int,
        clones: Path | None,
        samples: Path,
    ):
        super().__init__(samples)
        self.sources, self.languages, self.policy = tuple(sources), tuple(languages), policy
        self.max_bytes, self.clones = max_bytes, clones

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        beside: Counter[str] = Counter()
        for source in units(self.sources):
            if share(source.name, world_size) == rank:
                yield from self._read(source, beside)
        for reason, number in sorted(beside.items()):
            self.stat_update(f"beside/{reason}", value=number)
        self.finish(rank)

    def _read(self, source: CodeSource, beside: Counter[str]) -> Iterator[Document]:
        started = time.thread_time()
        for file in screened(
            source, languages=self.languages, max_bytes=self.max_bytes, counts=beside, clones=self.clones
        ):
            if isinstance(file, LeftOut):
                self.drop(document(file.text, file.repository, file.path, file.language, "", file.size), file.reason)
                continue
            size = len(file.text.encode("utf-8", "surrogatepass"))
            each = document(file.text, file.repository, file.path, file.language, file.licence, size)
            if refused := self.policy.refusal(file.licence):
                self.drop(each, refused)
                continue
            self._cpu += time.thread_time() - started
            self.count(KEPT, file.language, "", size)
            yield each
            started = time.thread_time()
        self._cpu += time.thread_time() - started

    def refusal(self, document: Document) -> str | None:
        raise NotImplementedError("this block reads files, not documents")
