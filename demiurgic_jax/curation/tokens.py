"""Texts as arrays of token hashes: what near-duplicates and benchmark copies are found by."""

import re
import zlib
from functools import cache

import numpy as np

_WORDS = re.compile(r"[^\W_]+", re.ASCII)
_ALPHABETIC = re.compile(r"\w+|[^\w\s]")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def token_strings(text: str) -> list[str]:
    """Identifiers, numbers and single marks."""
    return _ALPHABETIC.findall(text)


def word_strings(text: str) -> list[str]:
    """Words and numbers in small letters, without marks; `two_words` are two."""
    return _WORDS.findall(text.lower())


@cache
def _hash(token: str) -> int:
    data = token.encode("utf-8", "surrogatepass")
    return (zlib.crc32(data) << 32) | zlib.adler32(data[::-1] + b"\x01")


def hashes_of(tokens: list[str]) -> np.ndarray:
    """uint64 [n], the same in every process."""
    if _hash.cache_info().currsize > 2_000_000:
        _hash.cache_clear()
    return np.fromiter(map(_hash, tokens), np.uint64, len(tokens))


def ngram_hashes(hashes: np.ndarray, n: int) -> np.ndarray:
    """uint64 [max(len - n + 1, 0)]: one of each `n` tokens in a row; of fewer than `n` tokens, one of all."""
    if not len(hashes):
        return np.empty(0, np.uint64)
    n = min(n, len(hashes))
    count = len(hashes) - n + 1
    mixed = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(n):
            mixed = mix(mixed ^ hashes[offset : offset + count])
    return mixed


def mix(values: np.ndarray) -> np.ndarray:
    """uint64 → uint64, one to one; near values come far apart."""
    with np.errstate(over="ignore"):
        values = values * _MULTIPLIER
        return values ^ (values >> np.uint64(29))
