"""Near-duplicates, of all repositories at once: our signatures in datatrove's files, so that its buckets and clusters
go on with them on any number of machines.

Signatures are rensa's over hashes that are computed as arrays; bare datatrove cuts words by a tokenizer for prose and
multiplies each with each permutation in NumPy (docs/performance.md has the ratio).
"""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster
from datatrove.utils.hashing import HashConfig

from demiurgic_jax.curation.corpus.block import CPU, CorpusBlock
from demiurgic_jax.curation.near_duplicates import MinHashConfig, signatures

_AT_ONCE = 64


def datatrove_config(config: MinHashConfig) -> MinhashConfig:
    """The same bands and rows for datatrove's own blocks; hashes are of 32 bits."""
    return MinhashConfig(
        n_grams=config.ngram,
        num_buckets=config.bands,
        hashes_per_bucket=config.rows,
        seed=config.seed,
        hash_config=HashConfig(precision=32, hash_fc="sha1"),
    )


class SignNear(PipelineStep):
    """Passes documents on, and writes `folder`/bucket_BAND/RANK.minhash.sig as datatrove's MinhashDedupSignature does:
    for each document with tokens the band's hashes and the document's number, sorted."""

    type, name = "corpus", "signing"

    def __init__(self, folder: Path, config: MinHashConfig):
        super().__init__()
        self.folder, self.config = Path(folder), config

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        signed: list[np.ndarray] = []
        waiting, cpu = iter(data), 0.0
        while batch := list(islice(waiting, _AT_ONCE)):
            started = time.thread_time()
            with self.track_time("batch"):
                signed.append(signatures([each.text for each in batch], self.config))
            cpu += time.thread_time() - started
            yield from batch
        started = time.thread_time()
        width = self.config.bands * self.config.rows
        whole = np.concatenate(signed) if signed else np.empty((0, width), np.uint32)
        for band in range(self.config.bands):
            _write_band(self.folder, rank, band, whole[:, band * self.config.rows : (band + 1) * self.config.rows])
        self.stat_update(CPU, value=cpu + time.thread_time() - started, unit="task")


def _write_band(folder: Path, rank: int, band: int, hashes: np.ndarray) -> None:
    """`hashes`: uint32 [documents, rows]."""
    rows = np.concatenate([hashes, np.arange(len(hashes), dtype=np.uint32)[:, None]], axis=1).astype("<u4")
    # The first column is the last key of a lexical sort.
    rows = rows[np.lexsort(rows.T[::-1])]
    path = folder / f"bucket_{band:03d}" / f"{rank:05d}.minhash.sig"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows.tobytes())


def find_pairs(folder: Path, pairs: Path, config: MinHashConfig) -> Any:
    """datatrove's block for as many tasks as there are bands."""
    return MinhashDedupBuckets(
        str(folder), str(pairs), config=datatrove_config(config), only_dedup_in_index=False, lines_to_buffer=4096
    )


def find_clusters(pairs: Path, clusters: Path, config: MinHashConfig) -> Any:
    """datatrove's block for one task."""
    return MinhashDedupCluster(str(pairs), str(clusters), config=datatrove_config(config), lines_to_buffer=4096)


class DropNear(CorpusBlock):
    """Leaves out all but one of each cluster that datatrove found; documents come as they were signed."""

    name = "near-duplicates"

    def __init__(self, clusters: Path, samples: Path):
        super().__init__(samples)
        self.clusters = Path(clusters)
        self._numbers: frozenset[int] = frozenset()
        self._at = 0

    def begin(self, rank: int) -> None:
        path = self.clusters / f"{rank:06d}.remove"
        self._numbers = frozenset(np.fromfile(path, "<u4").tolist()) if path.exists() else frozenset()
        self._at = 0

    def refusal(self, document: Document) -> str | None:
        number, self._at = self._at, self._at + 1
        return "near-duplicate" if number in self._numbers else None
