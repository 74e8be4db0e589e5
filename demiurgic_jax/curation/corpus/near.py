"""Near-duplicates, of all repositories at once: our signatures in datatrove's files, so that its buckets go on with
them on any number of machines.

`SignNear` leaves signatures and the documents' ids, datatrove's block pairs of documents that share a band,
`FindNear`, one task, those of each cluster whose id is not its smallest, `DropNear` leaves them out. datatrove's own
clusters keep what comes first in the lowest part, hence something else for another number of parts.

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
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.utils.hashing import HashConfig
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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
    for each document with tokens the band's hashes and the document's number, sorted; and `folder`/RANK.ids.npy, the
    documents' ids (uint64) by number."""

    type, name = "corpus", "signing"

    def __init__(self, folder: Path, config: MinHashConfig):
        super().__init__()
        self.folder, self.config = Path(folder), config

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        signed: list[np.ndarray] = []
        ids: list[int] = []
        waiting, cpu = iter(data), 0.0
        while batch := list(islice(waiting, _AT_ONCE)):
            started = time.thread_time()
            with self.track_time("batch"):
                signed.append(signatures([each.text for each in batch], self.config))
            ids += [int(each.id, 16) for each in batch]
            cpu += time.thread_time() - started
            yield from batch
        started = time.thread_time()
        width = self.config.bands * self.config.rows
        whole = np.concatenate(signed) if signed else np.empty((0, width), np.uint32)
        for band in range(self.config.bands):
            _write_band(self.folder, rank, band, whole[:, band * self.config.rows : (band + 1) * self.config.rows])
        np.save(self.folder / f"{rank:05d}.ids.npy", np.array(ids, np.uint64))
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


class FindNear(PipelineStep):
    """From datatrove's `pairs` and the ids beside `signatures` to `clusters`/RANK.npy: ids (uint64) of the documents
    to leave out, so that each connected component of the pairs keeps its smallest."""

    type, name = "corpus", "finding near-duplicates"

    def __init__(self, signatures: Path, pairs: Path, clusters: Path):
        super().__init__()
        self.signatures, self.pairs, self.clusters = Path(signatures), Path(pairs), Path(clusters)

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        ids = {int(path.name[:5]): np.load(path) for path in sorted(self.signatures.glob("*.ids.npy"))}
        # (rank, number, rank, number) of each pair
        read = [np.fromfile(path, "<u4").reshape(-1, 4) for path in sorted(self.pairs.glob("*.dups"))]
        pairs = np.concatenate(read).astype(np.uint64).reshape(-1, 2)
        places, ends = np.unique(pairs[:, 0] << np.uint64(32) | pairs[:, 1], return_inverse=True)
        ends = ends.reshape(-1, 2)
        edges = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(len(places), len(places)))
        _, components = connected_components(edges, directed=False)
        ranks = places >> np.uint64(32)
        own = np.empty(len(places), np.uint64)
        for each, of_rank in ids.items():
            here = ranks == each
            own[here] = of_rank[places[here] & np.uint64(0xFFFFFFFF)]
        order = np.lexsort((own, components))
        later = np.zeros(len(places), bool)
        later[order[1:]] = components[order[1:]] == components[order[:-1]]
        self.clusters.mkdir(parents=True, exist_ok=True)
        for each in ids:
            np.save(self.clusters / f"{each:05d}.npy", own[later & (ranks == each)])
        return iter(())


class DropNear(CorpusBlock):
    """Leaves out what `FindNear` found in the part that is the task's."""

    name = "near-duplicates"

    def __init__(self, clusters: Path, samples: Path):
        super().__init__(samples)
        self.clusters = Path(clusters)
        self._ids: frozenset[int] = frozenset()

    def begin(self, rank: int) -> None:
        self._ids = frozenset(np.load(self.clusters / f"{rank:05d}.npy").tolist())

    def refusal(self, document: Document) -> str | None:
        return "near-duplicate" if int(document.id, 16) in self._ids else None
