"""MultiPL-E has no solutions in TypeScript: HumanEvalPack's in JavaScript stand in for them, called from within."""

import textwrap
from collections.abc import Mapping

import pytest

from demiurgic_jax.evaluation.benchmark import Problem
from demiurgic_jax.evaluation.catalogue import load_benchmark
from demiurgic_jax.evaluation.published import PUBLISHED, DataFolder
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.toolchains import why_missing
from tests.evaluation.conftest import needs_sandbox

pytestmark = [
    needs_sandbox,
    pytest.mark.skipif(why_missing("typescript") is not None, reason=str(why_missing("typescript"))),
]


def answer(row: Mapping[str, str], solution: str) -> str:
    """A body that has the JavaScript function within it, and gives what that makes of the same arguments."""
    function = textwrap.indent(row["prompt"] + row[solution], "  ")
    return f"\n{function}\n  return {row['entry_point']}.apply(null, arguments);\n}}\n"


# Where HumanEvalPack's JavaScript does not hold MultiPL-E's tests, with the reason.
OTHERWISE = {
    "HumanEval_87_get_row": "its answer is one flat list, for a comma in brackets is no pair in JavaScript",
    "HumanEval_92_any_int": "JavaScript cannot tell 3.0 from 3",
    "HumanEval_103_rounded_avg": "Python rounds halves to even, JavaScript up",
    "HumanEval_107_even_odd_palindrome": "returns (a, b), which in JavaScript is b",
    "HumanEval_114_minSubArraySum": "the function has another name there",
    "HumanEval_136_largest_smallest_integers": "returns (a, b), which in JavaScript is b",
    "HumanEval_155_even_odd_count": "returns (a, b), which in JavaScript is b",
    "HumanEval_162_string_to_md5": "needs the npm package js-md5",
}


def passes(problem: Problem, text: str) -> bool:
    trial = problem.judging.trial(text, "raw")
    return run_tests(problem.language, trial.candidate, trial.tests).passed


@pytest.mark.parametrize(
    "step", [pytest.param(20, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.full_size)]
)
def test_javascripts_canonical_solutions_pass_multipl_e_and_buggy_ones_fail(shared_data, step):
    data = DataFolder(shared_data, download=False)
    solutions = {row["task_id"].partition("/")[2]: row for row in data.rows(PUBLISHED["humanevalpack/js.jsonl"])[0]}
    wrong = []
    for problem in load_benchmark("multipl-e-ts", data).problems[::step]:
        row = solutions[problem.id.split("_")[1]]
        found = [passes(problem, answer(row, each)) for each in ("canonical_solution", "buggy_solution")]
        if found != [True, False] and problem.id not in OTHERWISE:
            wrong.append((problem.id, found))
    assert wrong == []
