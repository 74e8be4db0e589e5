"""What a piece of one vocabulary is in another: the id with the same bytes, or the first of those that spell it."""

from functools import cached_property, lru_cache

import numpy as np

from demiurgic_jax.data.tokenizer import Tokenizer

NONE = -1


def reserved_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that are markers, and never a part of the text."""
    return frozenset(
        token_id
        for token_id in range(tokenizer.vocab_size)
        if tokenizer.decode([token_id]) and not tokenizer.decode([token_id], skip_special=True)
    )


class Pieces:
    """A tokenizer's vocabulary by the bytes of its pieces."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.reserved = reserved_ids(tokenizer)
        # Of a marker the bytes are none: it is no part of the text.
        self.bytes_of = [
            b"" if token_id in self.reserved else tokenizer.token_bytes(token_id)
            for token_id in range(tokenizer.vocab_size)
        ]
        alike: dict[bytes, list[int]] = {}
        for token_id, content in enumerate(self.bytes_of):
            if content:
                alike.setdefault(content, []).append(token_id)
        self.by_bytes = {content: self._used(content, ids) for content, ids in alike.items()}
        self.by_spelling = {tokenizer.token_bytes(token_id): token_id for token_id in sorted(self.reserved)}
        self._longest = max(map(len, self.by_bytes), default=0)
        self.first_piece = lru_cache(maxsize=1 << 16)(self._first_piece)

    def _used(self, content: bytes, ids: list[int]) -> int:
        """Of ids with the same bytes, say a character and the byte that it is, the one that the tokenizer uses."""
        if len(ids) > 1:
            try:
                spelt = self.tokenizer.encode(content.decode())
            except UnicodeDecodeError:
                return ids[0]
            if len(spelt) == 1 and spelt[0] in ids:
                return spelt[0]
        return ids[0]

    def text(self, token_id: int) -> bytes:
        """What an id adds to a text: nothing for markers, and for what a padded network says beyond the vocabulary."""
        return self.bytes_of[token_id] if token_id < len(self.bytes_of) else b""

    def spelling(self, content: bytes) -> list[int]:
        """The ids that spell `content`; longest first where it is no whole text."""
        return self._spelt(content) or self._by_longest(content)

    def _first_piece(self, content: bytes) -> int:
        """The id with which the tokenizer spells `content`; the longest that fits where that is no whole text."""
        if (same := self.by_bytes.get(content)) is not None:
            return same
        spelt = self._spelt(content) or self._by_longest(content)[:1]
        return spelt[0] if spelt else NONE

    def _spelt(self, content: bytes) -> list[int]:
        """The tokenizer's own spelling; nothing where `content` is no whole text, or is spelt with other bytes."""
        try:
            ids = self.tokenizer.encode(content.decode())
        except UnicodeDecodeError:
            return []
        return ids if b"".join(self.bytes_of[token_id] for token_id in ids) == content else []

    def _by_longest(self, content: bytes) -> list[int]:
        ids: list[int] = []
        at = 0
        while at < len(content):
            sizes = range(min(self._longest, len(content) - at), 0, -1)
            size = next((size for size in sizes if content[at : at + size] in self.by_bytes), 0)
            if not size:
                return ids
            ids.append(self.by_bytes[content[at : at + size]])
            at += size
        return ids


class VocabularyMap:
    """From the ids of `source` to those of `target`."""

    def __init__(self, source: Tokenizer, target: Tokenizer) -> None:
        self.source, self.target = source, target
        self._from, self._to = Pieces(source), Pieces(target)
        self.source_reserved, self.source_bytes = self._from.reserved, self._from.bytes_of
        self.first_piece = self._to.first_piece

    @cached_property
    def reserved(self) -> dict[int, int]:
        """The markers of `source` that `target` has too: by what they are for, else by their spelling. What ends an
        answer ends it in the other as well, whatever it is called there."""
        source, target = self.source.special, self.target.special
        spelling = self._to.by_spelling
        found = {
            token_id: spelling[self.source.token_bytes(token_id)]
            for token_id in sorted(self.source_reserved)
            if self.source.token_bytes(token_id) in spelling
        }
        for field in ("pad", "fim_prefix", "fim_middle", "fim_suffix", "bos", "eos"):
            pair = getattr(source, field), getattr(target, field)
            if None not in pair and pair[0] in self.source_reserved:
                found[pair[0]] = pair[1]
        for stop in source.stops:
            found.setdefault(stop, target.eos)
        return found

    @cached_property
    def first(self) -> np.ndarray:
        """int32 [source ids]: the id of `target` that the text of each begins with; NONE for markers it lacks."""
        return np.array([self._of_id(token_id) for token_id in range(self.source.vocab_size)], np.int32)

    def pieces(self, token_id: int) -> list[int]:
        """The ids of `target` that spell this one; none for a marker that it lacks."""
        if token_id in self.source_reserved:
            return [self.reserved[token_id]] if token_id in self.reserved else []
        content = self.source_bytes[token_id]
        if (same := self._same(token_id, content)) is not None:
            return [same]
        return self._to.spelling(content)

    def _of_id(self, token_id: int) -> int:
        if token_id in self.source_reserved:
            return self.reserved.get(token_id, NONE)
        content = self.source_bytes[token_id]
        same = self._same(token_id, content)
        return same if same is not None else self.first_piece(content)

    def _same(self, token_id: int, content: bytes) -> int | None:
        """Of several with the same bytes, the one with the same number: a vocabulary maps to itself id by id."""
        target_bytes = self._to.bytes_of
        if content and token_id < len(target_bytes) and target_bytes[token_id] == content:
            return token_id
        return self._to.by_bytes.get(content)
