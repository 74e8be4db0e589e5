"""Whether a source file is worth learning from: what is measured of it, and the thresholds of each language.

A measure is of the bytes of UTF-8, taken by array operations, so that it costs a few nanoseconds a byte.
"""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.curation.python_code import parses
from demiurgic_jax.curation.tree_syntax import faulty_share


@dataclass(frozen=True)
class Thresholds:
    """What a file may be. Where each number comes from:

    `longest_line`, `mean_line` (bytes) and `alphanumeric` (share of the bytes) are those of Codex (Chen et al. 2021,
    arXiv:2107.03374, section 3.1: 1,000 and 100), kept by The Stack and StarCoder, who say 0.25 for the last (Li et al.
    2023, arXiv:2305.06161).
    `comments` (share of the bytes in comments) ends at StarCoder's 0.8; below, files without any are kept, for most of
    short ones have none and SantaCoder found little in the lower bound (Ben Allal et al. 2023, arXiv:2301.03988).
    `fertility` (bytes a token of the lexer below) drops what is no language: tables of numbers and of letters at the
    lower end, long words of data at the upper. Of 343 files of 9 packages the 0.1th and 99.9th percentiles were 1.9
    and 6.5; the bounds lie well outside. `python -m tools.benchmarks.corpus quality FOLDER` gives those of more.
    `encoded` (bytes) is the longest run of letters and digits without a break, as base64 has it: 1,024 as in StarCoder2
    (Lozhkov et al. 2024, arXiv:2402.19173, section 3.1).
    `faulty` (share of the bytes, blanks aside, that the parser cannot place) is 0 for Python, whose compiler decides;
    of the others in that sample 99 of 100 files had no fault at all. C++ has macros that no grammar knows: 99.9 % of
    17 MB of 43 libraries are below 0.05, and of the same with each twentieth token missing one file in five.
    """

    longest_line: int = 1000
    mean_line: float = 100.0
    alphanumeric: float = 0.25
    comments: float = 0.8
    fertility: tuple[float, float] = (1.5, 12.0)
    encoded: int = 1024
    faulty: float = 0.01


# A language that is not here has the defaults; what is not parsed has no faults.
THRESHOLDS: dict[str, Thresholds] = {
    "python": Thresholds(comments=0.95, faulty=0.0),  # documentation is text in the code: 0.8 is the 90th percentile
    "javascript": Thresholds(),
    "typescript": Thresholds(comments=0.9),
    "go": Thresholds(),
    "rust": Thresholds(),
    "java": Thresholds(comments=0.9),  # interfaces are mostly documentation
    "cpp": Thresholds(comments=0.9, faulty=0.05),
}
_DEFAULT = Thresholds()

_HASH_COMMENTS = frozenset(["python", "shell", "ruby", "perl", "r", "julia", "yaml", "toml", "elixir"])
_SKIPPED_STRING = rb'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\''
_BRACES = re.compile(rb"(//[^\n]*|/\*[\s\S]*?(?:\*/|\Z))|" + _SKIPPED_STRING)
_PYTHON = re.compile(rb'(#[^\n]*|"""[\s\S]*?(?:"""|\Z)|\'\'\'[\s\S]*?(?:\'\'\'|\Z))|' + _SKIPPED_STRING)

_LETTER, _SPACE, _OTHER = 1, 2, 4


@cache
def _classes() -> np.ndarray:
    """uint8 [256]: what a byte is; those beyond ASCII count as letters."""
    classes = np.full(256, _OTHER, np.uint8)
    classes[[*b"0123456789", *b"abcdefghijklmnopqrstuvwxyz", *b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *range(128, 256)]] = (
        _LETTER
    )
    classes[[*b" \t\n\r\f\v"]] = _SPACE
    return classes


@dataclass(frozen=True)
class Measures:
    """Of one file; the fields of Thresholds say what each is."""

    longest_line: int
    mean_line: float
    alphanumeric: float
    comments: float
    fertility: float
    encoded: int


def measure(text: str, language: str) -> Measures:
    """`text` must not be empty."""
    source = text.encode("utf-8", "surrogatepass")
    raw = np.frombuffer(source, np.uint8)
    kinds = _classes()[raw]
    breaks = np.flatnonzero(raw == 10)
    lines = np.diff(np.concatenate([[-1], breaks, [len(raw)]])) - 1
    letters = kinds == _LETTER
    words = letters | (raw == ord("_"))
    # A token is a word or a mark by itself.
    tokens = np.count_nonzero(words[1:] & ~words[:-1]) + int(words[0]) + np.count_nonzero((kinds == _OTHER) & ~words)
    data = letters | (raw == ord("+")) | (raw == ord("/")) | (raw == ord("="))
    gaps = np.diff(np.concatenate([[-1], np.flatnonzero(~data), [len(raw)]])) - 1
    visible = len(raw) - np.count_nonzero(kinds == _SPACE)
    return Measures(
        longest_line=int(lines.max()),
        mean_line=len(raw) / len(lines),
        alphanumeric=np.count_nonzero(letters) / len(raw),
        comments=_comment_bytes(source, language) / len(raw),
        fertility=float(visible) / max(int(tokens), 1),
        encoded=int(gaps.max()),
    )


def refusal(measures: Measures, language: str) -> str | None:
    """Why a file with these measures is not worth learning from."""
    limits = THRESHOLDS.get(language, _DEFAULT)
    if measures.longest_line > limits.longest_line:
        return "longest line"
    if measures.mean_line > limits.mean_line:
        return "mean line"
    if measures.alphanumeric < limits.alphanumeric:
        return "few letters"
    if measures.comments > limits.comments:
        return "comments alone"
    if not limits.fertility[0] <= measures.fertility <= limits.fertility[1]:
        return "no language"
    return "encoded data" if measures.encoded > limits.encoded else None


def faulty(text: str, language: str, enough: float = 0.0) -> float:
    """Share of the bytes of `text` that the language's parser cannot place, or one below `enough`; of Python 1 or 0; 0
    for a language that has no parser here."""
    if language == "python":
        return 0.0 if parses(text) else 1.0
    return faulty_share(text, LANGUAGES[language], enough) if language in LANGUAGES else 0.0


def parse_refusal(text: str, language: str) -> str | None:
    """Whether too much of `text` does not parse."""
    limit = THRESHOLDS.get(language, _DEFAULT).faulty
    return "does not parse" if faulty(text, language, limit) > limit else None


def _comment_bytes(source: bytes, language: str) -> int:
    pattern = _PYTHON if language in _HASH_COMMENTS else _BRACES
    if language not in _HASH_COMMENTS and b"//" not in source and b"/*" not in source:
        return 0
    return sum(match.end(1) - match.start(1) for match in pattern.finditer(source) if match[1] is not None)
