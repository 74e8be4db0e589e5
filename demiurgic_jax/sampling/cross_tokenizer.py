"""Soft targets for a student whose tokenizer is not its teacher's.

Samples are drawn twice. The teacher's distribution is sampled in its own tokens, finely; what was drawn is told in the
student's, as entries are that are all there are; and of these a sample is drawn that is as small as the shards want it.
Each time an entry's expected weight is its probability. Where the student's token begins with the teacher's, telling
is adding weights up, so there the loss has on average the gradient of the whole distribution. Inside of a teacher's
token it is dividing by a sum of weights: there that holds the better the more was drawn.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.alignment import Aligned, align, likeliest_first, read_both
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.order import hashed
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.soft_targets import MAX_ENTRIES, SoftTargets, sampled_targets, truncate_top_p
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.data.vocabulary_map import VocabularyMap
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.scored_shards import write_scored
from demiurgic_jax.sampling.scoring import Scorer, ScoringConfig, TopEntries, soft_target_provenance

# Apart from other draws.
_SHIFTS = 0x0E_5417F7


def score_shards_across(
    source: ShardSet,
    folder: str | Path,
    config: ModelConfig,
    params: Any,
    teacher_tokenizer: Tokenizer,
    student_tokenizer: Tokenizer,
    scoring: ScoringConfig,
    *,
    teacher: str,
    bos: bool = False,
    part: tuple[int, int] = (0, 1),
    progress: Callable[[int], None] | None = None,
) -> ShardSet | None:
    """As `score_shards`, of shards in the student's tokens: the teacher reads their text in its own (`bos`: with its
    BOS in front), and what it says is told in the student's (data/alignment.py). `row_length` counts its tokens."""
    source.require_tokenizer(student_tokenizer)
    pieces = teacher_tokenizer.vocab_size
    scoring.check(config, pieces)
    drawn = replace(scoring, top_k=min(MAX_ENTRIES, pieces)) if scoring.sampled else scoring
    scorer = Scorer(config, params, drawn, pieces)
    to_student = VocabularyMap(teacher_tokenizer, student_tokenizer)
    to_teacher = VocabularyMap(student_tokenizer, teacher_tokenizer)
    provenance = soft_target_provenance(source, teacher, scoring)
    provenance["soft_targets"] |= {"tokenizer": teacher_tokenizer.fingerprint, "bos": bos}

    def scored(
        documents: Sequence[Document], done: Container[int], report: Callable[[int], None]
    ) -> Iterator[tuple[int, SoftTargets]]:
        readings = [read_both(document.tokens, to_student, to_teacher, bos=bos) for document in documents]
        for number, reading in enumerate(readings):
            if not len(reading.teacher) and number not in done:
                report(len(reading.student))
                nothing = np.full((len(reading.student), 1), -np.inf)
                yield number, _kept(np.zeros(nothing.shape, np.int32), nothing, scoring)
        for number, top in scorer.top_entries([reading.teacher for reading in readings], done=done):
            reading = readings[number]
            ids, logprobs = (
                weighed(reading.teacher, top, drawn.top_k) if scoring.sampled else (top.ids, top.top_logprobs)
            )
            aligned = align(reading, top.logprobs, ids, logprobs, to_student)
            report(len(documents[number].tokens))
            yield number, (sampled if scoring.sampled else truncated)(aligned, reading.student, scoring)

    return write_scored(source, folder, student_tokenizer, scored, provenance=provenance, part=part, progress=progress)


def weighed(tokens: np.ndarray, top: TopEntries, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """What was drawn of the teacher's distribution at each of its `tokens` [m], as if it were all: ids int32 [m, K+1]
    and the logarithms of weights that sum to 1. The token that follows, which the alignment looks for, is among them
    with its own probability."""
    following = np.append(tokens[1:], 0)
    weights = np.where(np.isfinite(top.top_logprobs), np.maximum(np.exp(top.top_logprobs), 1 / samples), 0.0)
    weights = np.where(top.ids == following[:, None], 0.0, weights)
    weights = np.column_stack([np.exp(top.logprobs.astype(np.float64)), weights])
    with np.errstate(divide="ignore"):
        logprobs = np.log(weights / weights.sum(axis=1, keepdims=True))
    return np.column_stack([following, top.ids]).astype(np.int32), logprobs


def truncated(aligned: Aligned, tokens: np.ndarray, scoring: ScoringConfig) -> SoftTargets:
    """The likeliest entries up to top_p, top_k at most."""
    ids, logprobs = aligned.likeliest(scoring.top_k)
    return _kept(ids, np.minimum(logprobs, 0.0), scoring)


def sampled(aligned: Aligned, tokens: np.ndarray, scoring: ScoringConfig) -> SoftTargets:
    """About K of the entries, as data/soft_targets.py says, by numbers that follow from the student's `tokens` [n]
    alone: systematic sampling, as in sampling/vocabulary_blocks.py."""
    ids, logprobs = aligned.likeliest(aligned.ids.shape[1])
    chances = np.minimum(np.exp(logprobs) * scoring.top_k, 1.0)
    states = np.cumsum(hashed(np.arange(len(tokens)), tokens.astype(np.int64)))
    shifts = (hashed(_SHIFTS, states) >> np.uint64(40)).astype(np.float64) / (1 << 24)
    # Entries cover a line one after the other; drawn is what covers one of the points shift, shift + 1, ….
    points_before = np.ceil(np.cumsum(chances, axis=1) - shifts[:, None])
    drawn = np.diff(points_before, axis=1, prepend=np.ceil(-shifts)[:, None]) > 0
    return _kept(*likeliest_first(ids, np.where(drawn, np.minimum(logprobs, 0.0), -np.inf), scoring.top_k), scoring)


def _kept(ids: np.ndarray, logprobs: np.ndarray, scoring: ScoringConfig) -> SoftTargets:
    if scoring.sampled:
        return sampled_targets(ids, logprobs, scoring.top_k)
    return truncate_top_p(ids, logprobs, scoring.top_p)
