"""Shards written again with soft targets, document by document, by one process or several, over any number of kills."""

import fcntl
import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.document import Document, check_document, document_from_record, document_to_record, token_dtype
from demiurgic_jax.data.journal import Journal
from demiurgic_jax.data.shards import ShardSet, ShardSetWriter
from demiurgic_jax.data.soft_targets import SoftTargets
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

# Documents of one shard, the numbers of those that need not be scored, and who hears of tokens → (number, targets) of
# the others, in any order.
Scored = Callable[[Sequence[Document], Container[int], Callable[[int], None]], Iterator[tuple[int, SoftTargets]]]


def write_scored(
    source: ShardSet,
    folder: str | Path,
    tokenizer: Tokenizer,
    scored: Scored,
    *,
    provenance: Mapping[str, Any],
    part: tuple[int, int],
    progress: Callable[[int], None] | None,
) -> ShardSet | None:
    """`source` again in `folder`, with what `scored` says of its documents; as `scoring.score_shards` tells."""
    index, count = part
    if not 0 <= index < count:
        raise UserError(f"part {index} of {count} does not exist: give 0 to {count - 1}")
    report = progress or (lambda tokens: None)
    sizes = [entry["documents"] for entry in source.manifest["shards"]]
    writer = ShardSetWriter(folder, tokenizer=tokenizer, num_shards=len(sizes), provenance=provenance)
    first = 0
    for shard, size in enumerate(sizes):
        documents = range(first, first + size)
        first += size
        if shard % count != index:
            continue
        if writer.has_shard(shard):
            report(int(source.lengths[documents.start : documents.stop].sum()))
        else:
            _write_shard(writer, shard, [source.read(number) for number in documents], tokenizer, scored, report)
    return _finished(writer, alone=count == 1)


def _write_shard(
    writer: ShardSetWriter,
    shard: int,
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    scored: Scored,
    report: Callable[[int], None],
) -> None:
    path, ids = writer.path(shard), token_dtype(tokenizer.vocab_size)
    journal = Journal(path.with_name(path.name + ".scored"), writer.origin.encode())
    try:
        report(sum(len(document.tokens) for number, document in enumerate(documents) if number in journal))
        for number, soft in scored(documents, journal, report):
            document = _where_learnt(documents[number], soft)
            check_document(document, tokenizer.vocab_size)
            journal.append(number, document_to_record(document, ids))
        writer.write_shard(shard, (document_from_record(journal.read(n), ids) for n in range(len(documents))))
    except BaseException:
        journal.close()
        raise
    journal.remove()


def _where_learnt(document: Document, soft: SoftTargets) -> Document:
    if document.loss_mask is not None:
        soft = soft.where(np.append(document.loss_mask[1:], 0).astype(bool))
    return replace(document, soft_targets=soft)


def _finished(writer: ShardSetWriter, *, alone: bool) -> ShardSet | None:
    """The set, once all its shards stand; of several processes that see this at once, one closes it at a time."""
    folder = os.open(writer.folder, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if alone or all(writer.has_shard(shard) for shard in range(writer.num_shards)):
            return writer.finish()
        return None
    finally:
        os.close(folder)
