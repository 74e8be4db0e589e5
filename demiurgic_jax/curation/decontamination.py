"""Benchmark problems, and their copies in other names and layout, kept out of what is learnt.

A text is a copy of a problem where it holds a large part of the problem's description or tests (n-grams of words) or
of its solution (n-grams of code in which names do not count).
"""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.curation.code_tokens import code_tokens, parameterized_ngrams
from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.curation.recognition import language_of
from demiurgic_jax.curation.tokens import ngram_hashes, word_hashes
from demiurgic_jax.errors import UserError

# What benchmarks call the parts of a problem.
_DESCRIPTIONS = ("prompt", "text", "question", "description", "docstring", "instruction")
_SOLUTIONS = ("canonical_solution", "code", "solution", "reference_solution", "buggy_solution")
_TESTS = ("test", "tests", "test_list", "test_setup_code", "challenge_test_list")
_HEADS = ("declaration", "prompt")
_NAMES = ("task_id", "name", "id", "problem_id")
_LANGUAGES = {"js": "javascript", "ts": "typescript", "rs": "rust", "c++": "cpp"}

_DOCSTRING = re.compile(r"(?:\"{3}|'{3}|/\*\*?)([\s\S]*?)(?:>>>|\"{3}|'{3}|\*/|\bexamples?\b)", re.IGNORECASE)

# n-grams of 8 words are rare by chance in prose and code alike; of 10 code tokens without names, a solution has some
# that any loop has, so most of them must be there.
_WORDS, _CODE = 8, 10
_WORD_SHARE, _CODE_SHARE = 0.5, 0.6
# Fewer n-grams than these say nothing by themselves.
_FEW_WORDS, _FEW_CODE = 3, 6


@dataclass(frozen=True)
class _Part:
    """A part of a problem that is looked for: its number of n-grams, and how many of them make a copy."""

    problem: str
    kind: str
    needed: int


class Benchmarks:
    """The problems that are kept out. `match(text, language)` is a pure function; threads may share it."""

    def __init__(self, problems: Mapping[str, Mapping[str, Any]]):
        """`problems`: the rows of benchmarks by a name that reasons can give, each with a description, a solution or
        tests under one of the names that benchmarks use (docs/data.md lists them)."""
        self._parts: list[_Part] = []
        words: list[tuple[np.ndarray, int]] = []
        code: list[tuple[np.ndarray, int]] = []
        for name, row in problems.items():
            language = str(row.get("language") or _language_of_row(name, row))
            for text in _texts(row, _DESCRIPTIONS):
                self._add(words, _word_grams(text), name, "description", _WORD_SHARE, _FEW_WORDS)
                # A prompt of code and examples says what is wanted in its docstring.
                for prose in _DOCSTRING.findall(text):
                    self._add(words, _word_grams(prose), name, "description", _WORD_SHARE, _FEW_WORDS)
            for text in _texts(row, _TESTS):
                self._add(words, _word_grams(text), name, "tests", _WORD_SHARE, _FEW_WORDS)
            for text in _texts(row, _SOLUTIONS):
                grams = _code_grams(text, language)
                if len(grams) >= _FEW_CODE:
                    self._add(code, grams, name, "solution", _CODE_SHARE, _FEW_CODE)
                # One that is too short to be told by itself is told together with the function's name.
                head = next((str(row[head]) for head in _HEADS if row.get(head)), "")
                whole = _code_grams(head + text, language)
                self._add(code, whole, name, "solution", 1.0, 1)
        self.problems = len(problems)
        self._words, self._code = _Index(words), _Index(code)

    @classmethod
    def read(cls, folders: list[str] | tuple[str, ...]) -> "Benchmarks":
        """From folders (or files) of JSON lines (gzipped or not), and of source files, each a problem. Raises
        UserError where there is none, or a row has no part that is known."""
        problems: dict[str, Mapping[str, Any]] = {}
        for folder in folders:
            found = dict(_problems(Path(folder).expanduser()))
            if not found:
                raise UserError(f"benchmark folder {folder} holds no problems: give .jsonl, .jsonl.gz or source files")
            problems |= found
        return cls(problems)

    def match(self, text: str, language: str) -> str | None:
        """Which problem `text` is a copy of, and of which part: "HumanEval/3 (solution)"; None for none."""
        found = self._words.best(_word_grams(text), self._parts)
        if found is None:
            found = self._code.best(_code_grams(text, language), self._parts)
        return None if found is None else f"{found.problem} ({found.kind})"

    def _add(
        self, into: list[tuple[np.ndarray, int]], grams: np.ndarray, name: str, kind: str, share: float, few: int
    ) -> None:
        grams = np.unique(grams)
        if len(grams) < few:
            return
        needed = max(few, int(np.ceil(share * len(grams))))
        into.append((grams, len(self._parts)))
        self._parts.append(_Part(name, kind, needed))


class _Index:
    """n-gram → the parts that hold it, as sorted arrays."""

    def __init__(self, parts: list[tuple[np.ndarray, int]]):
        grams = np.concatenate([each for each, _ in parts]) if parts else np.empty(0, np.uint64)
        owners = np.concatenate([np.full(len(each), number) for each, number in parts]) if parts else np.empty(0, int)
        order = np.argsort(grams, kind="stable")
        self._grams, self._owners = grams[order], owners[order]
        # A table of 2^22 bits tells most n-grams away without a search.
        self._seen = np.zeros(1 << 22, bool)
        self._seen[grams >> np.uint64(42)] = True

    def best(self, grams: np.ndarray, parts: list[_Part]) -> _Part | None:
        """Of the parts of which enough is among `grams`, the one with the most."""
        grams = grams[self._seen[grams >> np.uint64(42)]]
        if not len(grams) or not len(self._grams):
            return None
        grams = np.unique(grams)
        first = np.searchsorted(self._grams, grams, "left")
        last = np.searchsorted(self._grams, grams, "right")
        spans = [self._owners[a:b] for a, b in zip(first, last, strict=True) if b > a]
        if not spans:
            return None
        owners, hits = np.unique(np.concatenate(spans), return_counts=True)
        enough = [
            (int(hit), -int(owner)) for owner, hit in zip(owners, hits, strict=True) if hit >= parts[owner].needed
        ]
        return parts[-max(enough)[1]] if enough else None


def _word_grams(text: str) -> np.ndarray:
    return ngram_hashes(word_hashes(text), _WORDS)


def _code_grams(text: str, language: str) -> np.ndarray:
    return parameterized_ngrams(*code_tokens(text, language), _CODE)


def _texts(row: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    texts = []
    for name in names:
        value = row.get(name)
        if isinstance(value, list):
            value = "\n".join(map(str, value))
        if isinstance(value, str) and value.strip():
            texts.append(value)
    return texts


def _language_of_row(name: str, row: Mapping[str, Any]) -> str:
    """HumanEvalPack and MultiPL-E name the language in the problem's id or in the file's name."""
    for part in name.lower().replace("-", "/").replace("_", "/").replace(":", "/").replace(".", "/").split("/"):
        known = _LANGUAGES.get(part, part)
        if known in ("python", "javascript", "typescript", "go", "rust", "java", "cpp"):
            return known
    return "python"


def _files(folder: Path) -> list[Path]:
    """`folder` itself where it is a file, else the files below it, sorted."""
    if not folder.exists():
        raise UserError(f"benchmark folder {folder} does not exist: give a folder of benchmark problems")
    return sorted(each for each in ([folder] if folder.is_file() else folder.rglob("*")) if each.is_file())


def _problems(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in _files(folder):
        if path.name.endswith((".jsonl", ".jsonl.gz")):
            yield from _rows(path)
        elif path.suffix and (language := language_of(path.name, "std::")) in LANGUAGES:
            text = path.read_text(encoding="utf-8", errors="replace")
            yield str(path.relative_to(folder.parent)), {"code": text, "text": text, "language": language}


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    stem = path.name.removesuffix(".gz").removesuffix(".jsonl")
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path} line {number} is not JSON ({error}): mend or remove the line") from error
            if not isinstance(row, dict) or not _texts(row, (*_DESCRIPTIONS, *_SOLUTIONS, *_TESTS)):
                raise UserError(
                    f"{path} line {number} is no benchmark problem: it has none of the fields "
                    f"{', '.join((*_DESCRIPTIONS, *_SOLUTIONS, *_TESTS))}"
                )
            name = next((str(row[each]) for each in _NAMES if row.get(each) is not None), str(number))
            yield f"{stem}:{name}", row


def benchmarks_digest(folders: list[str] | tuple[str, ...]) -> str:
    """SHA-256 (hex) of the files that `Benchmarks.read` would read."""
    digest = hashlib.sha256()
    for folder in map(Path, folders):
        for path in _files(folder.expanduser()):
            digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
