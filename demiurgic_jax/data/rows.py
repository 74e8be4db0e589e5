"""Rows of a packing plan as arrays.

Shape suffixes: B rows, S row length, K soft-target entries per position; n tokens of a piece, of which m have a target.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.document import TrainingPart
from demiurgic_jax.data.fim import FimTransform
from demiurgic_jax.data.packing import PackingPlan
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.soft_targets import SoftTargets


class Piece(NamedTuple):
    """What of a document stands in one row."""

    tokens: np.ndarray  # integer [n]
    following: int | None  # the target of the last token, if it has one: m is n or n-1
    weights: np.ndarray | None  # [m]; None: all 1
    soft_targets: SoftTargets | None  # of m positions


class RowReader:
    """The rows of one shard set."""

    def __init__(self, shard_set: ShardSet, plan: PackingPlan, fim: FimTransform | None) -> None:
        self.shard_set = shard_set
        self.plan = plan
        self._fim = fim

    def pieces(self, row: int, epoch: int) -> list[Piece]:
        """`row` as it is in `epoch`."""
        return [self._piece(*piece, epoch) for piece in self.plan.pieces(row)]

    def keys(self, row: int) -> list[str]:
        """The keys of the documents in `row`."""
        return [self.shard_set.read(document).key for document, _, _ in self.plan.pieces(row)]

    def _piece(self, number: int, start: int, stop: int, epoch: int) -> Piece:
        document = self.shard_set.read_training_part(number)
        if self._fim is not None and document.is_code and document.loss_mask is None:
            tokens = self._fim(document.tokens[start:stop], epoch, number, start)
            if tokens is not None:
                # The teacher was asked about other text: a task has no soft targets.
                return Piece(tokens, None, self._fim.learnt(tokens[1:]), None)
        return _cut(document, start, stop)


def _cut(document: TrainingPart, start: int, stop: int) -> Piece:
    """Tokens start..stop-1. The target of the last one is the first of the document's next piece, so cutting loses
    none."""
    tokens, mask, soft = document.tokens, document.loss_mask, document.soft_targets
    following = int(tokens[stop]) if stop < len(tokens) else None
    last = stop if following is not None else stop - 1
    return Piece(
        tokens[start:stop],
        following,
        None if mask is None else mask[start + 1 : last + 1],
        None if soft is None else soft.slice(start, last),
    )


def batch_of(rows: Sequence[Sequence[Piece]], B: int, S: int, K: int, *, sampled: bool = False) -> Batch:
    """The pieces of each row side by side, then nothing: segment 0, weight 0; rows of nothing up to `B`.

    `K` 0 leaves the teacher out; with `sampled` some of the soft targets may be samples.
    """
    nothing, one_by_one = np.zeros(S, np.int32), np.arange(S, dtype=np.int32)
    tokens, positions, sizes, segments = [], [], [], []
    following: list[int | None] = []
    masked: list[tuple[int, Piece]] = []  # those to go back to, and where they begin
    weights = np.ones(B * S, np.float32)
    for b in range(B):
        end = b * S
        for segment, piece in enumerate(rows[b] if b < len(rows) else (), start=1):
            if piece.weights is not None or piece.soft_targets is not None:
                masked.append((end, piece))
            size = len(piece.tokens)
            tokens.append(piece.tokens)
            positions.append(one_by_one[:size])
            sizes.append(size)
            segments.append(segment)
            following.append(piece.following)
            end += size
        if left := (b + 1) * S - end:
            tokens.append(nothing[:left])
            positions.append(nothing[:left])
            sizes.append(left)
            segments.append(0)
            following.append(None)
            weights[end : end + left] = 0
    ends = np.cumsum(sizes)
    flat_tokens = np.concatenate(tokens, dtype=np.int32)
    targets = np.empty_like(flat_tokens)
    targets[:-1] = flat_tokens[1:]
    targets[ends - 1] = [token or 0 for token in following]
    weights[ends - 1] = [token is not None for token in following]
    teacher_ids = np.zeros((B * S, K), np.int32) if K else None
    teacher_logprobs = np.full((B * S, K), -np.inf, np.float32) if K else None
    teacher_sampled = np.zeros(B * S, bool) if K and sampled else None
    for start, piece in masked:
        if piece.weights is not None:
            weights[start : start + len(piece.weights)] = piece.weights
        if piece.soft_targets is not None and teacher_ids is not None and teacher_logprobs is not None:
            here = slice(start, start + len(piece.soft_targets))
            teacher_ids[here], teacher_logprobs[here] = piece.soft_targets.dense(K)
            if teacher_sampled is not None:
                teacher_sampled[here] = piece.soft_targets.samples > 0
    segment_ids = np.repeat(np.array(segments, np.int32), sizes)
    teacher = teacher_ids, teacher_logprobs, teacher_sampled
    flat = (flat_tokens, targets, np.concatenate(positions), segment_ids, weights, *teacher)
    return Batch(*(None if array is None else array.reshape(B, S, *array.shape[1:]) for array in flat))
