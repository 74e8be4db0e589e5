"""Near-duplicates by MinHash: texts whose sets of token n-grams overlap so much that a band of their signatures agrees.

Two texts of Jaccard similarity s meet with probability 1 - (1 - s^rows)^bands (Broder 1997; Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, 3.4): with 14 bands of 8 rows 0.06 at 0.5, 0.56 at 0.75, 0.92 at 0.85.
"""

from dataclasses import dataclass

import numpy as np
import rensa

from demiurgic_jax.curation.tokens import ngram_hashes, token_hashes
from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class MinHashConfig:
    """`ngram` tokens make one element of a text's set; signatures have `bands` × `rows` values drawn from `seed`."""

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.ngram, self.bands, self.rows) < 1:
            raise UserError("near-duplicates: ngram, bands and rows must be 1 at least")

    def probability(self, similarity: float) -> float:
        """That two texts of this Jaccard similarity are found to be near-duplicates."""
        return 1 - (1 - similarity**self.rows) ** self.bands


def signatures(texts: list[str], config: MinHashConfig) -> np.ndarray:
    """uint32 [len(texts), bands · rows]."""
    grams = [ngram_hashes(token_hashes(text), config.ngram) for text in texts]
    offsets = np.cumsum([0, *map(len, grams)]).astype(np.uint64)
    flat = np.concatenate(grams) if grams else np.empty(0, np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, config.bands * config.rows, config.seed)
    return np.array(matrix.to_rows(), np.uint32).reshape(len(texts), -1)


class NearDuplicates:
    """Finds those of a stream of texts that are near-duplicates of an earlier one that was kept."""

    def __init__(self, config: MinHashConfig | None = None):
        self.config = config or MinHashConfig()
        self._buckets: dict[bytes, str] = {}

    def earlier(self, key: str, text: str) -> str | None:
        """The key of the earlier text that `text` is a near-duplicate of; None, and `text` is remembered under `key`,
        where there is none."""
        signature = signatures([text], self.config)[0].reshape(self.config.bands, self.config.rows)
        bands = [bytes([number]) + band.tobytes() for number, band in enumerate(signature)]
        for band in bands:
            if (found := self._buckets.get(band)) is not None:
                return found
        self._buckets.update(dict.fromkeys(bands, key))
        return None
