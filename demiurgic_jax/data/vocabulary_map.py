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


class VocabularyMap:
    """From the ids of `source` to those of `target`."""

    def __init__(self, source: Tokenizer, target: Tokenizer) -> None:
        self.source, self.target = source, target
        self.source_reserved, self.target_reserved = reserved_ids(source), reserved_ids(target)
        # Of a marker the bytes are none: it is no part of the text.
        self.source_bytes = _text_bytes(source, self.source_reserved)
        self.target_bytes = _text_bytes(target, self.target_reserved)
        self.by_bytes: dict[bytes, int] = {}
        for token_id, content in enumerate(self.target_bytes):
            if content:
                self.by_bytes.setdefault(content, token_id)
        self._longest = max(map(len, self.by_bytes), default=0)
        self.first_piece = lru_cache(maxsize=1 << 16)(self._first_piece)

    @cached_property
    def reserved(self) -> dict[int, int]:
        """The markers of `source` that `target` has too: by what they are for, else by their spelling. What ends an
        answer ends it in the other as well, whatever it is called there."""
        source, target = self.source.special, self.target.special
        spelling = {self.target.token_bytes(token_id): token_id for token_id in self.target_reserved}
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
        spelt = self._spelt(content)
        return spelt if spelt else self._by_longest(content)

    def _of_id(self, token_id: int) -> int:
        if token_id in self.source_reserved:
            return self.reserved.get(token_id, NONE)
        content = self.source_bytes[token_id]
        same = self._same(token_id, content)
        return same if same is not None else self._first_piece(content)

    def _same(self, token_id: int, content: bytes) -> int | None:
        """Of several with the same bytes, the one with the same number: a vocabulary maps to itself id by id."""
        if content and token_id < len(self.target_bytes) and self.target_bytes[token_id] == content:
            return token_id
        return self.by_bytes.get(content)

    def _first_piece(self, content: bytes) -> int:
        """The id of `target` with which it spells `content`; the longest that fits where that is no whole text."""
        if (same := self.by_bytes.get(content)) is not None:
            return same
        spelt = self._spelt(content) or self._by_longest(content)[:1]
        return spelt[0] if spelt else NONE

    def _spelt(self, content: bytes) -> list[int]:
        """The target's own spelling; nothing where `content` is no whole text, or is spelt with other bytes."""
        try:
            ids = self.target.encode(content.decode())
        except UnicodeDecodeError:
            return []
        return ids if b"".join(self.target_bytes[token_id] for token_id in ids) == content else []

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


def _text_bytes(tokenizer: Tokenizer, reserved: frozenset[int]) -> list[bytes]:
    return [
        b"" if token_id in reserved else tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)
    ]
