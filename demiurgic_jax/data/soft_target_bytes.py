"""How a record holds soft targets: three byte strings, little-endian.

Truncated: `teacher_counts` has the entries of each position, uint8 [n]; `teacher_logprobs` is float16.
Sampled: `teacher_counts` has K, uint8; the entries of each position, uint8 [n]; and how many of these have a code,
uint8 [n]. `teacher_logprobs` has the code, uint8, of each entry of more than 1/K, and a zero if their number is odd.
Either way `teacher_ids` are uint16 where the vocabulary fits, else uint32.

A document without soft targets has three empty ones.
"""

import numpy as np

from demiurgic_jax.data.soft_targets import SAMPLED, SoftTargets, decode_logprobs, encode_logprobs


def soft_targets_to_bytes(soft: SoftTargets, ids: np.dtype) -> tuple[bytes, bytes, bytes]:
    """`teacher_counts`, `teacher_ids` and `teacher_logprobs`."""
    if not soft.samples:
        return soft.counts.tobytes(), soft.ids.astype(ids).tobytes(), soft.logprobs.astype("<f2").tobytes()
    codes = encode_logprobs(soft.logprobs, soft.samples)
    kept = codes < SAMPLED
    positions = np.repeat(np.arange(len(soft)), soft.counts)
    coded = np.bincount(positions[kept], minlength=len(soft)).astype(np.uint8)
    counts = bytes([soft.samples]) + soft.counts.tobytes() + coded.tobytes()
    # TensorFlow Datasets reads this feature as 16-bit numbers.
    padding = b"\0" * (int(kept.sum()) % 2)
    return counts, soft.ids.astype(ids).tobytes(), codes[kept].tobytes() + padding


def soft_targets_from_bytes(
    counts_bytes: bytes, ids_bytes: bytes, logprobs_bytes: bytes, ids: np.dtype, length: int
) -> SoftTargets | None:
    """Inverse of `soft_targets_to_bytes` for a document of so many tokens; None where it has no teacher."""
    if not counts_bytes:
        return None
    entries = np.frombuffer(ids_bytes, ids).astype(np.int32)
    counts = np.frombuffer(counts_bytes, np.uint8)
    if len(counts) == length:
        return SoftTargets(counts, entries, np.frombuffer(logprobs_bytes, "<f2").astype(np.float16))
    samples, counts, coded = int(counts[0]), counts[1 : 1 + length], counts[1 + length :]
    ranks = np.arange(len(entries)) - np.repeat(np.cumsum(counts, dtype=np.int64) - counts, counts)
    has_code = ranks < np.repeat(coded, counts)
    codes = np.full(len(entries), SAMPLED, np.uint8)
    codes[has_code] = np.frombuffer(logprobs_bytes, np.uint8)[: has_code.sum()]
    return SoftTargets(counts, entries, decode_logprobs(codes, samples), samples)
