"""Texts as arrays of token hashes: what near-duplicates and benchmark copies are found by.

A text is cut and its tokens are hashed by array operations over its bytes. The hash of bytes b from s to e is the
polynomial Σ b[i]·B^(i-s) modulo 2^64 (Karp and Rabin 1987), for all tokens at once from one running sum.
"""

from functools import cache

import numpy as np

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BASE = 0x5851F42D4C957F2D
_DIGITS, _SMALL, _CAPITALS = b"0123456789", b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BLANK, WORD, MARK = 0, 1, 2


def token_hashes(text: str) -> np.ndarray:
    """uint64 [n]: of identifiers, numbers and single marks. What is not ASCII counts as a letter."""
    raw = as_bytes(text)
    starts, ends = token_spans(code_classes()[raw])
    return span_hashes(raw, starts, ends)


def word_hashes(text: str) -> np.ndarray:
    """uint64 [n]: of words and numbers in small letters, without marks; `two_words` are two. What is not ASCII
    separates."""
    raw = _small_letters()[as_bytes(text)]
    starts, ends = token_spans(_word_classes()[raw])
    return span_hashes(raw, starts, ends)


def as_bytes(text: str) -> np.ndarray:
    """uint8 [n], UTF-8."""
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)


def token_spans(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First bytes and ends of the tokens, int64 [n] each: runs of WORD, and each MARK by itself."""
    word, mark = classes == WORD, classes == MARK
    inner = word[1:] & word[:-1]  # both sides of a place between two bytes
    starts, ends = word | mark, word | mark
    starts[1:] &= ~inner
    ends[:-1] &= ~inner
    return np.flatnonzero(starts), np.flatnonzero(ends) + 1


def span_hashes(raw: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """uint64 [n]: of the bytes from each start to its end, the same in every process."""
    powers, inverses = _powers(max(len(raw), 1))
    sums = np.empty(len(raw) + 1, np.uint64)
    sums[0] = 0
    np.cumsum((raw.astype(np.uint64) + np.uint64(1)) * powers[: len(raw)], out=sums[1:])
    return mix((sums[ends] - sums[starts]) * inverses[starts])


@cache
def code_classes() -> np.ndarray:
    """uint8 [256]: WORD for letters, digits, `_` and what is not ASCII, BLANK for blanks, else MARK."""
    classes = np.full(256, MARK, np.uint8)
    classes[[*_DIGITS, *_SMALL, *_CAPITALS, ord("_"), *range(128, 256)]] = WORD
    classes[[*range(33), 127]] = BLANK
    return classes


@cache
def _word_classes() -> np.ndarray:
    classes = np.full(256, BLANK, np.uint8)
    classes[[*_DIGITS, *_SMALL]] = WORD
    return classes


@cache
def _small_letters() -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    table[[*_CAPITALS]] = [*_SMALL]
    return table


@cache
def _kept_powers() -> tuple[np.ndarray, np.ndarray]:
    return _computed_powers(1 << 20)


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """B^i and B^-i for i < `count`, or for some more; kept where texts are not huge."""
    kept = _kept_powers()
    return kept if count <= len(kept[0]) else _computed_powers(count)


def _computed_powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    powers, inverses = (np.full(count, base, np.uint64) for base in (_BASE, pow(_BASE, -1, 1 << 64)))
    powers[0] = inverses[0] = 1
    return np.multiply.accumulate(powers), np.multiply.accumulate(inverses)


def ngram_hashes(hashes: np.ndarray, n: int) -> np.ndarray:
    """uint64 [max(len - n + 1, 0)]: one of each `n` tokens in a row; of fewer than `n` tokens, one of all."""
    if not len(hashes):
        return np.empty(0, np.uint64)
    n = min(n, len(hashes))
    count = len(hashes) - n + 1
    mixed = np.zeros(count, np.uint64)
    for offset in range(n):
        mixed = mix(mixed ^ hashes[offset : offset + count])
    return mixed


def mix(values: np.ndarray) -> np.ndarray:
    """uint64 → uint64, one to one; near values come far apart."""
    with np.errstate(over="ignore"):
        values = values * _MULTIPLIER
        return values ^ (values >> np.uint64(29))
