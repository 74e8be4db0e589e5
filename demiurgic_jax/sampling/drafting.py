"""Guesses of what comes next, taken from the text itself: prompt-lookup decoding (Saxena 2023; Yang et al. 2023,
arXiv:2304.04487).

Who edits code repeats most of it. Where the newest tokens were seen before, what followed them then is the guess; the
network reads all of it at once and says how far it is right.
"""

from collections.abc import Sequence

# Newest tokens that must have been seen before, the longest stretch first.
MATCHED = (4, 2)


class Drafter:
    """The stretches of one row's tokens, and where each was seen last. What it costs is told by `worth`."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._followed: dict[tuple[int, ...], int] = {}
        # Guesses that are right in a verified step, as seen lately. Beginning high makes the first guess be tried.
        self.expected = 4.0
        self.extend(prompt)

    def extend(self, tokens: Sequence[int]) -> None:
        """The row goes on with `tokens`."""
        for token in tokens:
            # A stretch is known once something has followed it, so that the newest one does not find itself.
            for length in MATCHED:
                if len(self._tokens) >= length:
                    self._followed[tuple(self._tokens[-length:])] = len(self._tokens)
            self._tokens.append(token)

    def draft(self, count: int) -> list[int]:
        """Up to `count` tokens that may come next."""
        for length in MATCHED:
            start = self._followed.get(tuple(self._tokens[-length:]))
            if start is not None and len(self._tokens) >= length:
                guess = self._tokens[start : start + count]
                # What is repeated may be a loop shorter than the guess.
                while len(guess) < count:
                    guess.extend(self._tokens[start:][: count - len(guess)])
                return guess
        return []

    def learn(self, accepted: int) -> None:
        """So many guesses of the last step were right."""
        self.expected += 0.3 * (accepted - self.expected)

    def skip(self) -> None:
        """A guess was not tried: what is known of how good they are grows old."""
        self.expected += 0.01 * (4.0 - self.expected)
