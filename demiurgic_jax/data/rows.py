"""Rows of a packing plan as arrays.

Shape suffixes: B rows, S row length, K soft-target entries per position.
"""

from collections.abc import Sequence

import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.packing import PackingPlan
from demiurgic_jax.data.shards import ShardSet


def read_rows(
    shard_set: ShardSet, plan: PackingPlan, rows: Sequence[int], *, soft_targets: int, batch_size: int
) -> Batch:
    """The given rows of the plan, then empty ones (segment 0, weight 0) up to `batch_size`.

    `soft_targets` is K; 0 leaves the teacher out.
    """
    batch = _empty(batch_size, plan.row_length, soft_targets)
    for b, row in enumerate(rows):
        column = 0
        for segment, (document, start, stop) in enumerate(plan.pieces(row), start=1):
            _fill(batch, b, column, segment, shard_set, document, start, stop)
            column += stop - start
    return batch


def _empty(B: int, S: int, K: int) -> Batch:
    return Batch(
        tokens=np.zeros((B, S), np.int32),
        targets=np.zeros((B, S), np.int32),
        positions=np.zeros((B, S), np.int32),
        segment_ids=np.zeros((B, S), np.int32),
        loss_weights=np.zeros((B, S), np.float32),
        teacher_ids=np.zeros((B, S, K), np.int32) if K else None,
        teacher_logprobs=np.full((B, S, K), -np.inf, np.float32) if K else None,
    )


def _fill(
    batch: Batch, b: int, column: int, segment: int, shard_set: ShardSet, number: int, start: int, stop: int
) -> None:
    """Writes tokens start..stop-1 of document `number` into row `b` from `column` on.

    The target of a piece's last token is the first of the document's next piece, so cutting loses none.
    """
    document = shard_set.read(number)
    size = stop - start
    here = slice(column, column + size)
    batch.tokens[b, here] = document.tokens[start:stop]
    batch.positions[b, here] = np.arange(size)
    batch.segment_ids[b, here] = segment

    targets = document.tokens[start + 1 : stop + 1]
    learnt = slice(column, column + len(targets))
    batch.targets[b, learnt] = targets
    mask = document.loss_mask
    batch.loss_weights[b, learnt] = 1 if mask is None else mask[start + 1 : stop + 1]
    if batch.teacher_ids is not None and batch.teacher_logprobs is not None and document.soft_targets is not None:
        soft = document.soft_targets.slice(start, start + len(targets))
        batch.teacher_ids[b, learnt], batch.teacher_logprobs[b, learnt] = soft.dense(batch.teacher_ids.shape[-1])
