"""A teacher's embeddings for a student with a tokenizer of its own."""

from dataclasses import replace
from typing import Any

import numpy as np

from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.data.vocabulary_map import VocabularyMap
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig


def trim_vocabulary(
    params: dict[str, Any], config: ModelConfig, teacher: Tokenizer, student: Tokenizer, vocab_size: int | None = None
) -> tuple[ModelConfig, Any]:
    """The model with a row for each of the student's ids, and up to `vocab_size` spare ones.

    A piece that the teacher has keeps its row; another one gets the mean of the rows of the teacher's pieces that spell
    it (Gee et al. 2022, Fast Vocabulary Transfer). Markers that the teacher lacks and spare rows get the mean of all.
    """
    vocab_size = vocab_size if vocab_size is not None else student.vocab_size
    if vocab_size < student.vocab_size:
        raise UserError(f"a vocabulary of {vocab_size} cannot hold the {student.vocab_size} pieces of the tokenizer")
    mapping = VocabularyMap(student, teacher)
    spelling = [mapping.pieces(token_id) for token_id in range(student.vocab_size)]

    def trimmed(table: np.ndarray) -> np.ndarray:
        table = np.asarray(table, np.float32)
        rows = np.tile(table[: teacher.vocab_size].mean(axis=0), (vocab_size, 1))
        for token_id, pieces in enumerate(spelling):
            if pieces:
                rows[token_id] = table[pieces[0]] if len(pieces) == 1 else table[pieces].mean(axis=0)
        return rows

    tables = {name: trimmed(params[name]) for name in ("embedding", "unembedding") if name in params}
    return replace(config, vocab_size=vocab_size), {**params, **tables}
