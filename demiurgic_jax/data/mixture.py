"""Several shard sets read as one stream of rows, in shares that hold at every moment."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

# Shares without a smaller common denominator are rounded to parts of this many.
MOST_PARTS = 10_000


@dataclass(frozen=True)
class MixtureConfig:
    """`sets` names shard sets: "train" is the run's own, others are folders or addresses. `weights` says how many
    rows each gives, in any unit: (3, 1) is three rows of the first to one of the second."""

    sets: tuple[str, ...] = ("train",)
    weights: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.sets) != len(self.weights):
            raise UserError(
                f"the mixture has {len(self.sets)} sets and {len(self.weights)} weights: give each set one weight"
            )
        whole_shares(self.sets, self.weights)


def whole_shares(names: Sequence[str], weights: Sequence[float]) -> list[int]:
    """`weights` as rows of one period: their exact ratio where MOST_PARTS rows hold it, else the nearest such.

    Raises UserError naming the set whose weight is below zero, no number, or less than one row in a period.
    """
    for name, weight in zip(names, weights, strict=True):
        if not (math.isfinite(weight) and weight >= 0):
            raise UserError(f"the mixture's weight of {name!r} is {weight}: give 0 or more")
    exact = [Fraction(str(weight)) for weight in weights]  # as written: 0.1 is a tenth
    total = sum(exact)
    if total == 0:
        raise UserError("all weights of the mixture are 0: give at least one set a weight above 0")
    shares = [weight / total for weight in exact]
    parts = math.lcm(*(share.denominator for share in shares))
    if parts > MOST_PARTS:
        parts = MOST_PARTS
        for name, share in zip(names, shares, strict=True):
            if 0 < share * parts < 1:
                raise UserError(
                    f"the mixture's weight of {name!r} is less than one row in {parts:,}: raise it or leave the set out"
                )
    wholes = [int(share * parts) for share in shares]
    # The largest remainders get what rounding down left over.
    by_remainder = sorted(range(len(shares)), key=lambda i: wholes[i] - shares[i] * parts)
    for i in by_remainder[: parts - sum(wholes)]:
        wholes[i] += 1
    return wholes


def interleaved(shares: Sequence[int]) -> np.ndarray:
    """Which set gives each row of a period, int16 [sum of `shares`]: after any number n of rows, periods repeating,
    set i has given n · shares[i] / sum(shares) of them, to within less than one row.

    Of the sets that are due a row the one goes first whose row is the most pressing: the proportionate-fair schedule
    of one processor (Baruah, Cohen, Plaxton and Varvel 1996).
    """
    parts = sum(shares)
    given = [0] * len(shares)
    order = np.empty(parts, np.int16)
    for n in range(parts):
        due = [i for i, share in enumerate(shares) if given[i] * parts < (n + 1) * share]
        order[n] = first = min(due, key=lambda i: -(-(given[i] + 1) * parts // shares[i]))
        given[first] += 1
    return order


class Mixture:
    """A stream of rows: `place` says for any of them which set it comes from, and the how-manieth of it it is."""

    def __init__(self, sets: Sequence[ShardSet], weights: Sequence[float]) -> None:
        """Raises UserError for weights as `whole_shares` does."""
        self.sets = list(sets)
        self.shares = whole_shares([str(each.folder) for each in sets], weights)
        self._order = interleaved(self.shares)
        self._rank = np.empty(len(self._order), np.int64)
        for i, share in enumerate(self.shares):
            self._rank[self._order == i] = np.arange(share)

    def place(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the rows numbered `rows` (int64 [n], from 0): the set of each, and its number among the set's rows."""
        period, within = np.divmod(rows, len(self._order))
        sets = self._order[within]
        return sets, period * np.array(self.shares)[sets] + self._rank[within]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over every byte of every set and the shares; of one set alone, its own."""
        if len(self.sets) == 1:
            return self.sets[0].fingerprint
        parts = [[each.fingerprint, share] for each, share in zip(self.sets, self.shares, strict=True)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def require_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raises UserError unless all sets were encoded by this very tokenizer."""
        for each in self.sets:
            each.require_tokenizer(tokenizer)
