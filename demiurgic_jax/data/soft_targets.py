"""A teacher's next-token distributions, truncated or sampled, and ragged.

Truncated: the likeliest entries; what they leave of the mass is one bucket, the rest. Sampled: each entry of the
vocabulary is there with the probability min(1, K·p) and then weighs max(p, 1/K), so that its expected weight is p.
All likely ones are there as they are, of the others some, and there is no rest: a loss that is linear in the teacher's
probabilities (forward KL at temperature 1) then has, in expectation, the very gradient of the whole distribution.
(Threshold sampling: Duffield et al. 2007, J. ACM 54(6); that truncation biases a student and sampling does not:
Anshumann et al. 2025, arXiv:2503.16870.)

Shape suffixes: n positions, K entries at most per position.
"""

from dataclasses import dataclass

import numpy as np

from demiurgic_jax.errors import UserError

MAX_ENTRIES = 255  # counts are stored as uint8
SOFT_TARGET_KINDS = ("top_p", "sampled")


@dataclass(frozen=True)
class SoftTargets:
    """Entry i describes the teacher's distribution of token i+1 given tokens 0..i.

    Entries of one position stand together, likeliest first. Where `samples` is 0 they are truncated, and what they
    leave of the probability mass is the "rest"; else it is the K of the sampling. A position with count 0 has no
    teacher.
    """

    counts: np.ndarray  # uint8 [n]
    ids: np.ndarray  # int32 [sum of counts]
    logprobs: np.ndarray  # float16 [sum of counts], natural log
    samples: int = 0

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
        return SoftTargets(self.counts[start:stop], self.ids[entries], self.logprobs[entries], self.samples)

    def where(self, kept: np.ndarray) -> "SoftTargets":
        """Without the entries of positions where `kept`, bool [n], is False."""
        entries = np.repeat(kept, self.counts)
        counts = np.where(kept, self.counts, 0).astype(np.uint8)
        return SoftTargets(counts, self.ids[entries], self.logprobs[entries], self.samples)

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


def sampled_targets(ids: np.ndarray, logprobs: np.ndarray, samples: int) -> SoftTargets:
    """What was drawn of each position with K = `samples`: ids integer [n, K], log-probabilities float [n, K].

    -inf marks an unused entry. Those of at most 1/K get the weight 1/K; the others are rounded to what eight bits hold.
    """
    require_samples(samples)
    if np.isnan(logprobs).any():
        position = int(np.argmax(np.isnan(logprobs).any(axis=1)))
        raise UserError(f"the teacher's log-probabilities at position {position} are NaN; look after the teacher")
    order = np.argsort(-logprobs, axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=1)
    logprobs = np.take_along_axis(logprobs, order, axis=1)
    used = np.isfinite(logprobs)
    values = decode_logprobs(encode_logprobs(logprobs[used], samples), samples)
    return SoftTargets(used.sum(axis=1).astype(np.uint8), ids[used].astype(np.int32), values, samples)


def require_samples(samples: int) -> None:
    if not 2 <= samples <= MAX_ENTRIES:
        raise UserError(f"{samples} samples of a teacher's distribution: give 2 to {MAX_ENTRIES}")


SAMPLED = 255  # the code of an entry that weighs 1/K


def encode_logprobs(logprobs: np.ndarray, samples: int) -> np.ndarray:
    """uint8 codes c of natural log-probabilities, -(c/255)²·ln K: finest near 0, where most of code's tokens are."""
    share = np.clip(-logprobs.astype(np.float64) / np.log(samples), 0.0, 1.0)
    return np.round(SAMPLED * np.sqrt(share)).astype(np.uint8)


def decode_logprobs(codes: np.ndarray, samples: int) -> np.ndarray:
    """Inverse of `encode_logprobs`, float16."""
    return (-np.square(codes / SAMPLED) * np.log(samples)).astype(np.float16)
