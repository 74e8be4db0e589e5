"""What the comparison of tools.benchmarks.distillation trains on and is measured on, made once and kept as shards.

Each file of a folder of Python gives one window of whole lines, at a place drawn from its name, so that a small set
still sees many files. Of the files, in an order drawn likewise, every eighth is held out.
"""

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.data.document import CODE, Document
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.data.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.mini import mini_problems
from demiurgic_jax.interop.imported import ImportedModel
from demiurgic_jax.sampling.cross_tokenizer import score_shards_across
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.scoring import ScoringConfig, score_shards

HELDOUT_EVERY = 8
UNLIKE_CODE = {"site-packages", "test", "tests"}  # other people's packages; files that are broken on purpose
SLOTS = 16  # continuations that the teacher writes at once


@dataclass(frozen=True)
class Window:
    """Whole lines of a file."""

    key: str
    text: str


@dataclass(frozen=True)
class Splits:
    """Windows for training and held out."""

    train: Sequence[Window]
    heldout: Sequence[Window]


def code_windows(folder: Path, characters: int) -> Splits:
    """One window of about so many characters of each Python file below `folder`."""
    windows = []
    for path in folder.rglob("*.py"):
        name = path.relative_to(folder)
        if UNLIKE_CODE & set(name.parts[:-1]):
            continue
        digest = hashlib.sha256(name.as_posix().encode()).digest()
        lines = path.read_text(encoding="utf-8", errors="ignore").splitlines(keepends=True)
        text = _window(lines, int.from_bytes(digest[:4]) / 2**32, characters)
        if text.strip():
            windows.append((digest, Window(name.as_posix(), text)))
    ordered = [window for _, window in sorted(windows, key=lambda pair: pair[0])]
    splits = Splits([w for i, w in enumerate(ordered) if i % HELDOUT_EVERY], ordered[::HELDOUT_EVERY])
    if len(ordered) < 2:
        raise UserError(f"{folder} has {len(ordered)} Python files of code: name a larger folder with --code")
    return splits


def _window(lines: Sequence[str], place: float, characters: int) -> str:
    ends = np.cumsum([len(line) for line in lines]) if lines else np.zeros(1)
    first = int(np.searchsorted(ends, place * max(0, ends[-1] - characters)))
    return "".join(lines[first:])[:characters]


def documents_of(windows: Sequence[Window], tokenizer: Tokenizer, tokens: int, longest: int) -> list[Document]:
    """The windows in their order, `longest` tokens of each at most, until so many tokens are there."""
    documents: list[Document] = []
    for window in windows:
        if tokens <= 0:
            return documents
        ids = tokenizer.encode(window.text)[: min(longest, tokens)]
        tokens -= len(ids)
        documents.append(Document(window.key, "python", CODE, np.array(ids, np.int32)))
    raise _short(tokens)


def _short(tokens: int) -> UserError:
    return UserError(f"the folder of --code is {tokens:,} tokens short: take fewer steps, or name a larger folder")


def continued(
    teacher: ImportedModel, windows: Sequence[Window], journal: Path, tokens: int, longest: int, prefix: int
) -> list[Document]:
    """The teacher's own text: each window's first `prefix` tokens, and what it says next, at temperature 1, up to
    `longest` tokens. Only what it said is learnt. `journal` keeps the answers, so that a killed job goes on."""
    said: dict[str, str] = {}
    if journal.exists():
        said = dict(json.loads(line) for line in journal.read_text().splitlines() if line.endswith("]"))
    journal.parent.mkdir(parents=True, exist_ok=True)
    starts = [(window.key, teacher.tokenizer.encode(window.text)[:prefix]) for window in windows]
    starts = [(key, ids) for key, ids in starts if len(ids) == prefix]
    documents: list[Document] = []
    with (
        Engine(teacher.config, teacher.params, teacher.tokenizer, slots=SLOTS, max_context=longest) as engine,
        journal.open("a") as written,
    ):
        while tokens > 0:
            batch = starts[len(documents) : len(documents) + SLOTS]
            if not batch:
                raise UserError(f"the folder of --code is {tokens:,} tokens short: take fewer steps, or another folder")
            missing = [(key, ids) for key, ids in batch if key not in said]
            for (key, _), text in zip(missing, asyncio.run(_complete(engine, missing, longest)), strict=True):
                said[key] = text
                written.write(json.dumps([key, text]) + "\n")
            written.flush()
            for key, ids in batch:
                answer = teacher.tokenizer.encode(said[key])[: longest - prefix]
                mask = np.repeat(np.array([0, 1], np.uint8), [prefix, len(answer)])
                documents.append(Document(key, "python", CODE, np.array(ids + answer, np.int32), mask))
                tokens -= len(ids) + len(answer)
            print(f"the teacher writes: {max(0, tokens):,} tokens to go", file=sys.stderr, flush=True)
    return documents


async def _complete(engine: Engine, starts: Sequence[tuple[str, list[int]]], longest: int) -> list[str]:
    def request(key: str, ids: list[int]) -> CompletionRequest:
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4])
        text = engine.tokenizer.decode(ids)
        return CompletionRequest(prompt=text, max_tokens=longest - len(ids), temperature=1.0, seed=seed)

    answers = await asyncio.gather(*(engine.complete(request(key, ids)) for key, ids in starts))
    return [answer.text for answer in answers]


def reference_answers(tokenizer: Tokenizer, longest: int) -> list[Document]:
    """demiurgic-mini's Python problems with their reference answers, which alone are learnt. Prompts that are too long
    lose their beginning."""
    documents = []
    for problem in mini_problems(("python",)):
        if problem.skill == "explain":
            continue
        prompt, answer = tokenizer.encode(problem.question.raw), tokenizer.encode(problem.canonical)
        answer = answer[: longest - 1]
        prompt = prompt[max(0, len(prompt) + len(answer) - longest) :]
        mask = np.repeat(np.array([0, 1], np.uint8), [len(prompt), len(answer)])
        documents.append(Document(problem.id, "python", problem.skill, np.array(prompt + answer, np.int32), mask))
    return documents


def own_tokenizer(folder: Path, windows: Sequence[Window], vocab_size: int) -> Tokenizer:
    """A SentencePiece tokenizer of the training windows, trained once."""
    if not (folder / "tokenizer.model").exists():
        save_tokenizer(train_sentencepiece((window.text for window in windows), vocab_size), folder)
    return load_tokenizer(folder)


def text_set(folder: Path, documents: Sequence[Document], tokenizer: Tokenizer) -> ShardSet:
    """The documents as shards, made once."""
    digest = hashlib.sha256(b"".join(document.tokens.astype("<i4").tobytes() for document in documents)).hexdigest()
    provenance = {"documents": len(documents), "sha256": digest}
    return write_shards(folder, documents, tokenizer=tokenizer, num_shards=1, provenance=provenance)


def scored_set(
    text: ShardSet, folder: Path, teacher: ImportedModel, tokenizer: Tokenizer, scoring: ScoringConfig
) -> ShardSet:
    """`text` with the teacher's soft targets, in the student's tokens; a killed job goes on where it was."""
    told: dict[str, Any] = {"teacher": Path(teacher.source).name, "progress": _progress(f"scoring {folder.name}", text)}
    whole = teacher.config, teacher.params, teacher.tokenizer
    if tokenizer.fingerprint == teacher.tokenizer.fingerprint:
        scored = score_shards(text, folder, *whole, scoring, **told)
    else:
        scored = score_shards_across(text, folder, *whole, tokenizer, scoring, **told)
    assert scored is not None, "one process does all shards"
    return scored


def _progress(name: str, shards: ShardSet) -> Callable[[int], None]:
    done, whole = 0, int(shards.lengths.sum())

    def report(tokens: int) -> None:
        nonlocal done
        done += tokens
        print(f"{name}: {done:,} of {whole:,} tokens", file=sys.stderr, flush=True)

    return report


def target_bytes(text: ShardSet, scored: ShardSet) -> float:
    """What soft targets take on disk, in bytes for each token that has some."""
    sizes = [sum(entry["bytes"] for entry in shards.manifest["shards"]) for shards in (scored, text)]
    return (sizes[0] - sizes[1]) / max(1, scored.manifest["soft_target_positions"])
