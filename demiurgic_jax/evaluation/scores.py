"""From judged answers to figures: pass@k of a benchmark and of its parts, and of two models side by side."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.results import NOT_RUN, Result
from demiurgic_jax.evaluation.statistics import Comparison, Interval, bootstrap, compare, pass_at_k

# The k of which a report speaks, where there are as many samples.
KS = (1, 5, 10, 100)
PARTS = ("language", "skill", "bug_type")


@dataclass(frozen=True)
class Score:
    """Of a set of problems: pass@k by k, each with its interval over problems."""

    problems: int
    samples: int
    pass_at: dict[int, Interval]


@dataclass(frozen=True)
class BenchmarkScores:
    """`parts` by kind and name: parts["language"]["go"]. `verdicts` counts samples. `not_run` gives the reason for each
    language that could not be run, whose problems count nowhere."""

    name: str
    whole: Score | None
    parts: dict[str, dict[str, Score]]
    verdicts: dict[str, int]
    not_run: dict[str, str] = field(default_factory=dict)


def by_problem(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results that were run, by problem, each problem's in the order of its samples."""
    grouped: dict[str, list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda each: each.sample):
        if result.verdict != NOT_RUN:
            grouped[result.problem].append(result)
    return grouped


def score(problems: Mapping[str, Sequence[Result]]) -> Score | None:
    """Over `problems`, which may have different numbers of samples; None where there are none."""
    if not problems:
        return None
    counts = [(len(results), sum(result.passed for result in results)) for results in problems.values()]
    fewest = min(samples for samples, _ in counts)
    pass_at = {k: bootstrap([pass_at_k(n, c, k) for n, c in counts]) for k in KS if k <= fewest}
    return Score(len(counts), fewest, pass_at)


def benchmark_scores(name: str, results: Sequence[Result]) -> BenchmarkScores:
    """All figures of one benchmark."""
    grouped = by_problem(results)
    parts: dict[str, dict[str, Score]] = {}
    for kind in PARTS:
        names = dict.fromkeys(getattr(rows[0], kind) for rows in grouped.values() if getattr(rows[0], kind))
        of_part = {
            part: score({key: rows for key, rows in grouped.items() if getattr(rows[0], kind) == part})
            for part in names
        }
        parts[kind] = {part: each for part, each in of_part.items() if each is not None}
    return BenchmarkScores(
        name=name,
        whole=score(grouped),
        parts=parts,
        verdicts=dict(Counter(result.verdict for result in results)),
        not_run={result.language: result.reason for result in results if result.verdict == NOT_RUN},
    )


def compare_results(name: str, mine: Sequence[Result], others: Sequence[Result]) -> Comparison:
    """`mine` minus `others` over the problems that both have run. Raises UserError where there are none."""
    a, b = by_problem(mine), by_problem(others)
    shared = [problem for problem in a if problem in b]
    if not shared:
        raise UserError(
            f"the two evaluations share no problem of {name} that both have run: compare the same benchmark"
        )
    return compare(
        [sum(each.passed for each in a[problem]) / len(a[problem]) for problem in shared],
        [sum(each.passed for each in b[problem]) / len(b[problem]) for problem in shared],
        [a[problem][0].passed for problem in shared],
        [b[problem][0].passed for problem in shared],
    )


def failures(results: Sequence[Result], count: int) -> list[Result]:
    """Up to `count` failed results, taken evenly over the benchmark so that every part has a say."""
    failed = [result for result in results if not result.passed and result.verdict != NOT_RUN and result.sample == 0]
    step = max(1, len(failed) // count) if count else 1
    return failed[::step][:count]
