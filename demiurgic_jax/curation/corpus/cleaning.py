"""Blocks that look at one document by itself: quality, syntax, benchmark problems, secrets."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from datatrove.data import Document

from demiurgic_jax.curation.corpus.block import CorpusBlock
from demiurgic_jax.curation.decontamination import Benchmarks
from demiurgic_jax.curation.quality import measure, parse_refusal, refusal
from demiurgic_jax.curation.secrets import redact


class DropPoor(CorpusBlock):
    """What the thresholds of `quality` refuse."""

    name = "quality"

    def refusal(self, document: Document) -> str | None:
        language = document.metadata["language"]
        return refusal(measure(document.text, language), language)


class DropFaulty(CorpusBlock):
    """What does not parse."""

    name = "syntax"

    def refusal(self, document: Document) -> str | None:
        return parse_refusal(document.text, document.metadata["language"])


@cache
def _benchmarks(folders: tuple[str, ...]) -> Benchmarks:
    return Benchmarks.read(folders)


class DropBenchmarks(CorpusBlock):
    """Copies of benchmark problems in `folders`, told as the teacher's pipeline tells them."""

    name = "benchmarks"

    def __init__(self, folders: Sequence[str], samples: Path):
        super().__init__(samples)
        self.folders = tuple(folders)

    def refusal(self, document: Document) -> str | None:
        found = _benchmarks(self.folders).match(document.text, document.metadata["language"])
        return None if found is None else f"problem of {found.partition(':')[0]}"


class Redact(CorpusBlock):
    """Placeholders for secrets and personal data of `kinds`; what is still valid stays."""

    name = "redaction"

    def __init__(self, kinds: Sequence[str], samples: Path):
        super().__init__(samples)
        self.kinds = tuple(kinds)
        self._placeholders: Counter[str] = Counter()
        self._changed = 0

    def refusal(self, document: Document) -> str | None:
        redacted = redact(document.text, self.kinds, self._placeholders)
        if redacted != document.text:
            self._changed += 1
            document.text = redacted
        return None

    def end(self, rank: int) -> None:
        for kind, number in sorted(self._placeholders.items()):
            self.stat_update(f"placeholders/{kind}", value=number)
        if self._changed:
            self.stat_update("changed", value=self._changed)
