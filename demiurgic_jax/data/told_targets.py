"""Soft targets from what an API tells of a text: its tokens and, for each, the likeliest, all of them as texts.

The teacher's tokenizer stays unknown, and need not be the student's: what is told is laid beside the student's tokens
where their bytes meet (data/alignment.py). An API tells so many entries and no more, so the targets are truncated: what
is left of the mass is the rest.

n tokens of a document; m of what was told, K entries at most for each.
"""

import bisect
import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from demiurgic_jax.data.alignment import Reading, align
from demiurgic_jax.data.completer import TokenLogprob
from demiurgic_jax.data.soft_targets import SoftTargets, truncate_top_p
from demiurgic_jax.data.vocabulary_map import NONE, Pieces

_BYTES = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")


def told_bytes(token: str) -> bytes:
    """A token's bytes, of its text, or of `bytes:\\xe4…`, as OpenAI's API writes a part of a character."""
    if match := _BYTES.fullmatch(token):
        return bytes.fromhex(match[1].replace("\\x", ""))
    return token.encode()


class ToldText:
    """A text as its teacher told it."""

    def __init__(self, told: Sequence[TokenLogprob]) -> None:
        self.told = told
        self._pieces = [told_bytes(entry.token) for entry in told]
        self.content = b"".join(self._pieces)
        self.ends = np.cumsum([len(piece) for piece in self._pieces], dtype=np.int64)

    def place(self, text: str) -> int | None:
        """Where `text` begins, in bytes. What was told may go on otherwise, for answers are tidied up at their end; but
        half of `text` must be there, and at one place only, or nobody could know: then None."""
        content = text.encode()
        common = bisect.bisect_right(range(1, len(content) + 1), 0, key=lambda size: content[:size] not in self.content)
        at = self.content.find(content[:common])
        return at if 2 * common >= len(content) > 0 and self.content.find(content[:common], at + 1) < 0 else None

    def nothing(self, n: int) -> SoftTargets:
        """Of `n` tokens that it says nothing of."""
        return SoftTargets(np.zeros(n, np.uint8), np.zeros(0, np.int32), np.zeros(0, np.float16))

    def targets(self, tokens: np.ndarray, start: int, offset: int, student: Pieces, top_k: int) -> SoftTargets:
        """Soft targets [n] of a document of which `tokens[start:]`, up to its next marker, spell what was told from
        byte `offset` on. Of each place the `top_k` likeliest; none outside of what was told.

        `start` is at least 1: nothing stands before the first token that could have learnt it."""
        if start < 1:
            raise ValueError("the document's first token follows nothing: start at 1 or later")
        read, ends = self._read(tokens[start:], offset, student)
        pieces = _ToldPieces(student)
        first = int(np.searchsorted(self.ends, offset, side="right"))
        base = int(self.ends[first - 1]) if first else 0
        told = self.told[first:]
        entries = [_entries(entry, pieces) for entry in told]
        K = max((len(each) for each in entries), default=1) or 1
        ids = np.zeros((len(told) + 1, K), np.int32)
        logprobs = np.full((len(told) + 1, K), -np.inf)
        for row, each in enumerate(entries):
            ids[row, : len(each)], logprobs[row, : len(each)] = list(each), list(each.values())
        reading = Reading(
            stream=self.content[base:],
            student=tokens[start - 1 : start + read],
            student_ends=np.concatenate([[offset], ends]) - base,
            readable=np.ones(read + 1, bool),
            # Before the first of them stands whatever came before: of it only the end is known.
            teacher=np.array([_BEFORE, *map(pieces.id, self._pieces[first:])], np.int32),
            teacher_ends=np.concatenate([[0], self.ends[first:] - base]),
        )
        following = np.array([*(_known(entry.logprob) for entry in told), -np.inf])
        aligned = align(reading, following, ids, logprobs, pieces)
        here = truncate_top_p(*aligned.likeliest(top_k), 1.0)
        counts = np.zeros(len(tokens), np.uint8)
        counts[start - 1 : start + read] = here.counts
        return SoftTargets(counts, here.ids, np.minimum(here.logprobs, 0))

    def _read(self, tokens: np.ndarray, offset: int, student: Pieces) -> tuple[int, np.ndarray]:
        """How many of `tokens` spell what was told from `offset` on, and where each of them ends."""
        ends: list[int] = []
        at = offset
        for token in tokens.tolist():
            piece = student.text(token)
            if not piece or self.content[at : at + len(piece)] != piece:
                break
            at += len(piece)
            ends.append(at)
        return len(ends), np.array(ends, np.int64)


_BEFORE = 0


class _ToldPieces:
    """The texts that occur among what was told, numbered as they come, as the teacher's vocabulary."""

    def __init__(self, student: Pieces) -> None:
        self._student = student
        self._ids: dict[bytes, int] = {}
        self.source_bytes = [b""]  # _BEFORE

    def id(self, content: bytes) -> int:
        if (known := self._ids.get(content)) is None:
            known = self._ids[content] = len(self.source_bytes)
            self.source_bytes.append(content)
        return known

    @cached_property
    def first(self) -> np.ndarray:
        """To be asked for once all texts are numbered."""
        return np.array([self._first(content) for content in self.source_bytes], np.int32)

    def first_piece(self, content: bytes, /) -> int:
        return self._student.first_piece(content)

    def _first(self, content: bytes) -> int:
        # What is spelt as a marker is one: as text it would be several tokens.
        marker = self._student.by_spelling.get(content)
        return marker if marker is not None else self._student.first_piece(content) if content else NONE


def _entries(entry: TokenLogprob, pieces: _ToldPieces) -> dict[int, float]:
    """Ids and log-probabilities of what was told at one place, the token that came among them."""
    told = {pieces.id(told_bytes(token)): _known(logprob) for token, logprob in entry.top}
    if np.isfinite(own := _known(entry.logprob)):
        told.setdefault(pieces.id(told_bytes(entry.token)), own)
    return told


def _known(logprob: float) -> float:
    """The first token of a prompt has no probability; those of -9999 and the like were not among those told."""
    return min(logprob, 0.0) if np.isfinite(logprob) and logprob > -100 else -np.inf
