"""What one training step eats.

Shape suffixes: B batch, S sequence, K soft-target entries per position.
"""

from typing import Any, NamedTuple

# NumPy arrays where the loader makes them, JAX arrays inside a step.
Array = Any


class Batch(NamedTuple):
    """Rows of packed documents. A NamedTuple, hence a JAX pytree without importing JAX here.

    `targets[b, s]` is the token that follows `tokens[b, s]` in the same document; where there is none
    (a document's last token, padding) `loss_weights` is 0. `segment_ids` number the documents of a row
    from 1 and are 0 on padding; tokens attend only within their segment. `positions` restart at 0 with
    each document. Soft targets, when the shards have them, describe the teacher's distribution of
    `targets[b, s]`: `teacher_logprobs` is -inf on unused entries (their ids are 0), and a position
    without any entry has no teacher. `teacher_sampled`, there where some set has sampled ones, says
    whether the entries of a position are samples, which leave no rest (data/soft_targets.py).
    """

    tokens: Array  # int32 [B, S]
    targets: Array  # int32 [B, S]
    positions: Array  # int32 [B, S]
    segment_ids: Array  # int32 [B, S]
    loss_weights: Array  # float32 [B, S]
    teacher_ids: Array | None = None  # int32 [B, S, K]
    teacher_logprobs: Array | None = None  # float32 [B, S, K]
    teacher_sampled: Array | None = None  # bool [B, S]
