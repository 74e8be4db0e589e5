"""A teacher's next-token distributions, truncated and ragged.

Shape suffixes: n positions, K entries at most per position.
"""

from dataclasses import dataclass

import numpy as np

from demiurgic_jax.errors import UserError

MAX_ENTRIES = 255  # counts are stored as uint8


@dataclass(frozen=True)
class SoftTargets:
    """Entry i describes the teacher's distribution of token i+1 given tokens 0..i.

    Entries of one position stand together, likeliest first; what they leave of the probability mass is
    the "rest". A position with count 0 has no teacher.
    """

    counts: np.ndarray  # uint8 [n]
    ids: np.ndarray  # int32 [sum of counts]
    logprobs: np.ndarray  # float16 [sum of counts], natural log

    def __len__(self) -> int:
        return len(self.counts)

    def dense(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `k` entries of each position: ids int32 [n, k], logprobs float32 [n, k].

        Unused entries have id 0 and logprob -inf.
        """
        ids = np.zeros((len(self), k), np.int32)
        logprobs = np.full((len(self), k), -np.inf, np.float32)
        positions = np.repeat(np.arange(len(self)), self.counts)
        ranks = np.arange(len(self.ids)) - np.repeat(self._offsets()[:-1], self.counts)
        kept = ranks < k
        ids[positions[kept], ranks[kept]] = self.ids[kept]
        logprobs[positions[kept], ranks[kept]] = self.logprobs[kept]
        return ids, logprobs

    def slice(self, start: int, stop: int) -> "SoftTargets":
        """Positions start..stop-1."""
        offsets = self._offsets()
        entries = slice(offsets[start], offsets[stop])
        return SoftTargets(self.counts[start:stop], self.ids[entries], self.logprobs[entries])

    def _offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])


def truncate_top_p(ids: np.ndarray, logprobs: np.ndarray, top_p: float) -> SoftTargets:
    """Keeps of each position the fewest likeliest entries whose mass reaches `top_p` (all K if none does).

    `ids` is integer [n, K], `logprobs` float [n, K] in any order; -inf marks an unused entry. At least
    one entry stays where there is any.
    """
    if ids.shape != logprobs.shape or ids.ndim != 2 or ids.shape[1] > MAX_ENTRIES:
        raise ValueError(f"ids {ids.shape} and logprobs {logprobs.shape} must be [n, K] alike, K at most {MAX_ENTRIES}")
    if np.isnan(logprobs).any():
        position = int(np.argmax(np.isnan(logprobs).any(axis=1)))
        raise UserError(f"the teacher's log-probabilities at position {position} are NaN; look after the teacher")
    order = np.argsort(-logprobs, axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=1)
    logprobs = np.take_along_axis(logprobs, order, axis=1).astype(np.float64)
    mass = np.exp(logprobs)
    mass_before = np.cumsum(mass, axis=1) - mass
    kept = (mass_before < top_p) & np.isfinite(logprobs)
    kept[:, :1] = np.isfinite(logprobs[:, :1])
    return SoftTargets(
        counts=kept.sum(axis=1).astype(np.uint8),
        ids=ids[kept].astype(np.int32),
        logprobs=logprobs[kept].astype(np.float16),
    )
