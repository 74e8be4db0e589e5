"""Which benchmark problems the training shards contain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from demiurgic_jax.curation.decontamination import Benchmarks
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.evaluation.benchmark import Benchmark
from demiurgic_jax.evaluation.continuation import Continuation
from demiurgic_jax.sandbox.toolchains import LANGUAGES

# A document may hold more than one problem, so it is looked at in parts, each with half of the one before.
PART_CHARACTERS = 6_000


@dataclass(frozen=True)
class Contamination:
    """`found` says for each problem, by id, in which documents (their numbers) and of which part of it there is a
    copy."""

    shards: str
    documents: int
    problems: int
    found: dict[str, list[str]]


def contamination(
    benchmarks: Sequence[Benchmark],
    shards: ShardSet,
    tokenizer: Tokenizer,
    *,
    where: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Contamination:
    """Compares n-grams of every decoded document with those of every problem's text, solution and tests, as
    `curation.decontamination` does when it keeps problems out. Raises UserError where the tokenizer is another."""
    shards.require_tokenizer(tokenizer)
    rows = {
        problem.id if len(benchmarks) == 1 else f"{benchmark.name} {problem.id}": {
            # What every problem is asked with says nothing of this one: of MBPP, three examples.
            "prompt": problem.question.chat,
            "canonical_solution": problem.canonical,
            "declaration": problem.judging.before if isinstance(problem.judging, Continuation) else "",
            "language": problem.language,
        }
        for benchmark in benchmarks
        for problem in benchmark.problems
    }
    known = Benchmarks(rows)
    found: dict[str, list[str]] = {}
    for number in range(len(shards)):
        document = shards.read(number)
        text = tokenizer.decode(document.tokens.tolist(), skip_special=True)
        for name in dict.fromkeys(_matches(known, text, _language(document))):
            found.setdefault(name.rpartition(" (")[0], []).append(f"{number} ({name.rpartition(' (')[2]}")
        progress(number + 1, len(shards))
    return Contamination(where, len(shards), len(rows), found)


def _matches(known: Benchmarks, text: str, language: str) -> list[str]:
    step = PART_CHARACTERS // 2
    starts = range(0, max(1, len(text) - step), step)
    parts = [text[start : start + PART_CHARACTERS] for start in starts]
    return [name for part in parts if (name := known.match(part, language)) is not None]


def _language(document: Document) -> str:
    return document.language if document.language in LANGUAGES else "python"
