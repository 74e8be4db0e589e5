"""Soft targets for a student whose tokenizer is not its teacher's."""

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.alignment import Aligned, align, read_both
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.soft_targets import SoftTargets, truncate_top_p
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.data.vocabulary_map import VocabularyMap
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.scored_shards import write_scored
from demiurgic_jax.sampling.scoring import Scorer, ScoringConfig, soft_target_provenance


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
    if scoring.sampled:
        raise UserError(
            "samples of a teacher's distribution cannot be told in another tokenizer's pieces: score with kind top_p"
        )
    scorer = Scorer(config, params, scoring, teacher_tokenizer.vocab_size)
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
                yield number, truncate_top_p(np.zeros((len(reading.student), 1)), _nothing(reading.student), 1.0)
        for number, top in scorer.top_entries([reading.teacher for reading in readings], done=done):
            aligned = align(readings[number], top.logprobs, top.ids, top.top_logprobs, to_student)
            report(len(documents[number].tokens))
            yield number, truncated(aligned, scoring)

    return write_scored(source, folder, student_tokenizer, scored, provenance=provenance, part=part, progress=progress)


def truncated(aligned: Aligned, scoring: ScoringConfig) -> SoftTargets:
    """The likeliest entries up to top_p, top_k at most."""
    used = (aligned.probabilities > 0) & aligned.has_teacher[:, None]
    logprobs = np.where(used, np.log(np.where(used, aligned.probabilities, 1)), -np.inf)
    order = np.argsort(-logprobs, axis=1, kind="stable")[:, : scoring.top_k]
    ids, logprobs = (np.take_along_axis(x, order, axis=1) for x in (aligned.ids, logprobs))
    return truncate_top_p(ids, np.minimum(logprobs, 0.0), scoring.top_p)


def _nothing(tokens: np.ndarray) -> np.ndarray:
    return np.full((len(tokens), 1), -np.inf)
