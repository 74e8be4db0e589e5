"""The corpus as shards, a part each, and a sample of it for the tokenizer.

A process reads, encodes and writes a part by itself, so that as many run as there are cores.
"""

import hashlib
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.document import CODE, Document
from demiurgic_jax.data.shards import ShardSet, ShardSetWriter
from demiurgic_jax.data.tokenizer import Tokenizer, load_tokenizer
from experiments.progress import StageProgress

# A document of the sample is chosen by this many bits of its key.
_BITS = 32


def corpus_documents(folder: Path, part: int, tokenizer: Tokenizer) -> Iterator[Document]:
    """The part's documents in its order, each behind its text the end of text."""
    from demiurgic_jax.curation.corpus.parts import read_rank

    for each in read_rank(folder, part):
        ids = np.array([*tokenizer.encode(each.text), tokenizer.special.eos], np.int32)
        yield Document(each.id, each.metadata["language"], CODE, ids, licence=each.metadata["licence"])


def write_part(
    part: int, documents: Path, tokenizer_folder: Path, shards: Path, num_shards: int, provenance: Mapping[str, Any]
) -> int:
    """Writes shard number `part`, if it is not there, and returns the number."""
    tokenizer = load_tokenizer(tokenizer_folder)
    writer = ShardSetWriter(shards, tokenizer=tokenizer, num_shards=num_shards, provenance=provenance)
    if not writer.has_shard(part):
        writer.write_shard(part, corpus_documents(documents, part, tokenizer))
    return part


def write_corpus_shards(
    documents: Path,
    tokenizer_folder: Path,
    shards: Path,
    parts: int,
    provenance: Mapping[str, Any],
    progress: StageProgress,
    processes: int | None = None,
) -> ShardSet:
    """A shard for each part of `documents`, by `processes` (all cores); goes on where a killed run was."""
    work = partial(
        write_part,
        documents=documents,
        tokenizer_folder=tokenizer_folder,
        shards=shards,
        num_shards=parts,
        provenance=provenance,
    )
    tokenizer = load_tokenizer(tokenizer_folder)
    writer = ShardSetWriter(shards, tokenizer=tokenizer, num_shards=parts, provenance=provenance)
    # A fork would copy threads of JAX's that hold locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes or os.cpu_count() or 1, parts), context) as pool:
        for done, _ in enumerate(pool.map(work, range(parts)), start=1):
            progress(done, parts, "shards of the corpus")
    return writer.finish()


def sample_texts(
    folder: Path, parts: int, sizes: Mapping[str, int], weights: Mapping[str, float], megabytes: float
) -> Iterator[str]:
    """Texts of about `megabytes` in all, of each language its weight's share (languages without one: 1), as far as
    there is so much of it. `sizes` are the bytes that each language has; which documents follows from their keys."""
    from demiurgic_jax.curation.corpus.parts import read_rank

    there = {language: size for language, size in sizes.items() if size}
    total = sum(weights.get(language, 1.0) for language in there)
    budget = {language: megabytes * 1e6 * weights.get(language, 1.0) / total for language in there}
    taken: Counter[str] = Counter()
    for part in range(parts):
        for each in read_rank(folder, part):
            language = each.metadata["language"]
            if taken[language] >= budget.get(language, 0.0):
                continue
            chance = min(1.0, budget[language] / there[language])
            if _drawn(each.id) < chance:
                taken[language] += len(each.text)
                yield each.text


def _drawn(key: str) -> float:
    """From 0 to below 1, by the key alone."""
    digest = hashlib.sha256(f"sample {key}".encode()).digest()
    return int.from_bytes(digest[:4], "little") / 2**_BITS
