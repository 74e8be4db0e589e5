"""Which slot a prompt goes to, and what it finds there: tokens whose keys and values are in the cache already."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# A shorter common beginning is not worth copying to another slot.
SHORTEST_COPY = 16


class Place(NamedTuple):
    """`slot` is where the prompt goes; its first `length` tokens are found in slot `source`."""

    slot: int
    source: int
    length: int


class HeldPrefixes:
    """The tokens that each slot's cache holds, also after the request that they were of has ended."""

    def __init__(self, slots: int) -> None:
        self._held: list[np.ndarray] = [np.zeros(0, np.int32)] * slots
        self._used = [0] * slots  # when each was last taken or left, in a count of such events
        self._clock = 0

    def choose(self, prompt: Sequence[int], free: Sequence[int]) -> Place:
        """Where `prompt` is to go of the `free` slots.

        The longest common beginning is taken, wherever it is. Its slot is taken too, if it is free and holds nothing
        else; otherwise the one that was left the longest ago, so that the beginnings of many conversations stay.
        """
        ids = np.asarray(prompt, np.int32)
        common = [_common(held, ids) for held in self._held]
        source = max(range(len(common)), key=lambda slot: (common[slot], slot in free))
        # The last token is read in any case: something has to say what follows it.
        length = min(common[source], len(ids) - 1)
        oldest = min(free, key=lambda slot: self._used[slot])
        if source in free and (source == oldest or length >= len(self._held[source]) - 1):
            return Place(source, source, length)
        own = min(common[oldest], len(ids) - 1)
        if length - own < SHORTEST_COPY:
            return Place(oldest, oldest, own)
        return Place(oldest, source, length)

    def hold(self, slot: int, tokens: Sequence[int]) -> None:
        """From now on `slot` holds exactly these."""
        self._held[slot] = np.asarray(tokens, np.int32)
        self._clock += 1
        self._used[slot] = self._clock

    def forget(self) -> None:
        """The cache is gone."""
        self._held = [np.zeros(0, np.int32)] * len(self._held)


def _common(held: np.ndarray, ids: np.ndarray) -> int:
    """Tokens that both begin with."""
    length = min(len(held), len(ids))
    different = np.flatnonzero(held[:length] != ids[:length])
    return int(different[0]) if len(different) else length
