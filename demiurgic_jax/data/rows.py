"""Rows of a packing plan as arrays.

Shape suffixes: B rows, S row length, K soft-target entries per position.
"""

from typing import NamedTuple

import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.fim import FimTransform
from demiurgic_jax.data.packing import PackingPlan
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.soft_targets import SoftTargets

# Documents with this task are code and nothing else: what may be cut into a prefix, a middle and a suffix.
CODE = "code"


class _Piece(NamedTuple):
    """What of a document stands in one row. Its last token may have no target: m is n or n-1."""

    tokens: np.ndarray  # integer [n]
    targets: np.ndarray  # integer [m]
    weights: np.ndarray | int  # [m], or of all
    soft_targets: SoftTargets | None  # of m positions


class RowReader:
    """The rows of one shard set."""

    def __init__(self, shard_set: ShardSet, plan: PackingPlan, fim: FimTransform | None) -> None:
        self.shard_set = shard_set
        self.plan = plan
        self._fim = fim

    def fill(self, batch: Batch, b: int, row: int, epoch: int) -> None:
        """Writes `row`, as it is in `epoch`, into row `b` of an empty batch."""
        column = 0
        for segment, (document, start, stop) in enumerate(self.plan.pieces(row), start=1):
            piece = self._piece(document, start, stop, epoch)
            _write(batch, b, column, segment, piece)
            column += len(piece.tokens)

    def keys(self, row: int) -> list[str]:
        """The keys of the documents in `row`."""
        return [self.shard_set.read(document).key for document, _, _ in self.plan.pieces(row)]

    def _piece(self, number: int, start: int, stop: int, epoch: int) -> _Piece:
        document = self.shard_set.read(number)
        if self._fim is not None and document.task == CODE and document.loss_mask is None:
            tokens = self._fim(document.tokens[start:stop], epoch, number, start)
            if tokens is not None:
                # The teacher was asked about other text: a task has no soft targets.
                return _Piece(tokens, tokens[1:], self._fim.learnt(tokens[1:]), None)
        return _cut(document, start, stop)


def _cut(document: Document, start: int, stop: int) -> _Piece:
    """Tokens start..stop-1. The target of the last one is the first of the document's next piece, so cutting loses
    none."""
    targets = document.tokens[start + 1 : stop + 1]
    mask, soft = document.loss_mask, document.soft_targets
    return _Piece(
        document.tokens[start:stop],
        targets,
        1 if mask is None else mask[start + 1 : stop + 1],
        None if soft is None else soft.slice(start, start + len(targets)),
    )


def empty_batch(B: int, S: int, K: int) -> Batch:
    """Rows of nothing: segment 0, weight 0. K 0 leaves the teacher out."""
    return Batch(
        tokens=np.zeros((B, S), np.int32),
        targets=np.zeros((B, S), np.int32),
        positions=np.zeros((B, S), np.int32),
        segment_ids=np.zeros((B, S), np.int32),
        loss_weights=np.zeros((B, S), np.float32),
        teacher_ids=np.zeros((B, S, K), np.int32) if K else None,
        teacher_logprobs=np.full((B, S, K), -np.inf, np.float32) if K else None,
    )


def _write(batch: Batch, b: int, column: int, segment: int, piece: _Piece) -> None:
    size = len(piece.tokens)
    here = slice(column, column + size)
    batch.tokens[b, here] = piece.tokens
    batch.positions[b, here] = np.arange(size)
    batch.segment_ids[b, here] = segment
    learnt = slice(column, column + len(piece.targets))
    batch.targets[b, learnt] = piece.targets
    batch.loss_weights[b, learnt] = piece.weights
    if batch.teacher_ids is not None and batch.teacher_logprobs is not None and piece.soft_targets is not None:
        dense = piece.soft_targets.dense(batch.teacher_ids.shape[-1])
        batch.teacher_ids[b, learnt], batch.teacher_logprobs[b, learnt] = dense
