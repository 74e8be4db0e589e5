"""Every benchmark's problems: prompts and stops as published, and programs that pass with the canonical solution."""

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.benchmark import EXPLANATION, Question, Retelling
from demiurgic_jax.evaluation.catalogue import NAMES, load_benchmark, load_benchmarks
from demiurgic_jax.evaluation.extraction import defines
from demiurgic_jax.evaluation.humaneval import mbpp_problems
from demiurgic_jax.evaluation.humaneval_plus import as_published, humaneval_plus_problems, mbpp_plus_problems
from demiurgic_jax.evaluation.published import DataFolder
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.toolchains import why_missing
from tests.evaluation.conftest import humaneval_rows, needs_sandbox

PACK = [f"humanevalpack-{skill}" for skill in ("synthesize", "fix", "explain")]


@pytest.fixture
def data(shared_data) -> DataFolder:
    return DataFolder(shared_data, download=False)


def verdict(problem, answer, form="raw"):
    trial = problem.judging.trial(answer, form)
    assert not trial.refused
    return run_tests(problem.language, trial.candidate, trial.tests, entry_point=trial.entry_point)


def named(benchmark, number):
    return benchmark.problems[number]


@needs_sandbox
@pytest.mark.parametrize("name", ["humaneval+", "mbpp", "infilling-single"])
def test_canonical_solutions_pass(name, data):
    benchmark = load_benchmark(name, data)
    for problem in (named(benchmark, 3), named(benchmark, 32), named(benchmark, -1)):
        assert verdict(problem, problem.canonical).passed, problem.id
        assert not verdict(problem, "\n    return 12345\n").passed


@needs_sandbox
@pytest.mark.parametrize("language", ["python", "js", "go", "java", "cpp", "rust"])
def test_of_humanevalpack_canonical_solutions_pass_and_buggy_ones_fail(language, data):
    problem = named(load_benchmark(f"humanevalpack-fix:{language}", data), 1 if language == "rust" else 32)
    if (reason := why_missing(problem.language)) is not None:
        pytest.skip(reason)
    assert verdict(problem, problem.canonical).passed
    assert not verdict(problem, problem.buggy).passed
    assert problem.bug_type
    # The same as a chat answers: the function alone, though its tests need others that the prompt gives.
    lines = problem.judging.before.split("\n")
    head = next(line for line in lines if defines(line, problem.judging.entry_point, problem.language))
    code = f"{head}\n{problem.canonical}"
    if language != "java":  # whose function stands in a class
        assert verdict(problem, f"So:\n```{language}\n{code}\n```", "chat").passed


def test_prompts_and_stops_are_the_published_ones(data):
    mbpp = named(load_benchmark("mbpp", data), 0)
    assert mbpp.id == "MBPP/11"
    assert mbpp.question.raw.count("You are an expert Python programmer, and here is your task: ") == 4
    assert mbpp.question.raw.count("[DONE]") == 3
    assert mbpp.question.raw.endswith("[BEGIN]\n")
    assert mbpp.question.stop == ("[DONE]",)
    fix = named(load_benchmark("humanevalpack-fix:python", data), 0)
    assert "Fix bugs in has_close_elements." in fix.question.raw
    assert fix.question.raw.endswith("def has_close_elements(numbers: List[float], threshold: float) -> bool:")
    assert '"""' not in fix.question.raw
    typescript = named(load_benchmark("multipl-e-ts", data), 0)
    assert typescript.question.stop == ("\nfunction ", "\n/*", "\n//", "\nclass")
    infill = named(load_benchmark("infilling-single", data), 0)
    assert infill.question.request("raw").suffix.startswith("        for idx2, elem2 in")


def test_every_benchmark_says_how_many_problems_it_has(data):
    counts = {name: len(load_benchmark(name, data).problems) for name in ("humaneval+", "mbpp", *PACK)}
    assert counts == {"humaneval+": 164, "mbpp": 500, **dict.fromkeys(PACK, 984)}
    explained = load_benchmark("humanevalpack-explain:go+rust", data).problems
    assert (len(explained), {each.language for each in explained}) == (328, {"go", "rust"})


def test_an_explanation_cannot_carry_the_code_over():
    again = Question(f"{EXPLANATION}\nWrite it.", f"{EXPLANATION}\nWrite it.")
    code = "    return sorted(numbers, reverse=True)\n"
    asked = Retelling(again, code, limit=80).ask(f"It sorts.\n{code}{'very ' * 40}long").raw
    assert "sorted(numbers" not in asked
    assert asked.startswith("It sorts.\n")
    assert len(asked) < 80 + len("\nWrite it.")


def plus_row(**more):
    row = humaneval_rows()[0]
    return {**row, "base_input": [[1], [2]], "plus_input": [[10**20]], "atol": 0, **more}


@needs_sandbox
def test_plus_inputs_find_what_the_base_tests_let_through():
    (problem,) = humaneval_plus_problems([plus_row()])
    assert verdict(problem, problem.canonical).passed
    wrong = verdict(problem, "\n    return 2 * x if x < 1000 else 0\n")
    assert (wrong.status, "input 3 of 3" in wrong.reason) == ("failed", True)


@needs_sandbox
def test_floats_are_compared_with_their_tolerance():
    row = plus_row(base_input=[[0.5]], plus_input=[[float("inf")]])
    (problem,) = humaneval_plus_problems([row])
    assert verdict(problem, "\n    return 2 * x + 1e-9\n").passed
    assert not verdict(problem, "\n    return 2 * x + 1e-3\n").passed


@needs_sandbox
def test_mbpp_plus_gives_tuples_where_json_had_lists():
    row = plus_row(task_id="Mbpp/2", entry_point="similar", prompt='"""Share."""\n', base_input=[[[1, 2], [2]]])
    row |= {"plus_input": [], "canonical_solution": "def similar(a, b):\n    return tuple(set(a) & set(b)), type(a)\n"}
    row["canonical_solution"] = "def similar(a, b):\n    assert type(a) is tuple\n    return len(set(a) & set(b))\n"
    (problem,) = mbpp_plus_problems([row])
    assert verdict(problem, problem.canonical).passed
    assert not verdict(problem, "def similar(a, b):\n    return 0\n").passed


def test_types_that_json_could_not_hold_come_back():
    assert as_published("Mbpp/75", [[[1, 2]], 3]) == [[(1, 2)], 3]
    assert as_published("Mbpp/259", [[[1, 2]], [[3, 4]]]) == [((1, 2),), ((3, 4),)]
    assert as_published("Mbpp/615", [[[1], [2]]]) == [((1,), (2,))]
    assert as_published("Mbpp/124", ["1", "2j"]) == [1.0, 2j]
    assert as_published("Mbpp/3", [[1]]) == [[1]]


@needs_sandbox
@pytest.mark.parametrize("skill", ["complete", "generate", "explain", "fix", "refactor"])
def test_of_demiurgic_mini_reference_answers_pass(skill):
    problems = [each for each in load_benchmark("demiurgic-mini:python", DataFolder(None)).problems]
    problem = next(each for each in problems if each.skill == skill)
    assert verdict(problem, problem.canonical).passed
    if skill == "fix":
        assert not verdict(problem, problem.buggy).passed
    if skill == "refactor":
        longer = problem.judging.trial(problem.canonical + "\nspare = [0, 1, 2, 3]" * 50, "raw")
        assert longer.refused == "it is not shorter than before"


def test_unknown_names_are_refused_with_the_nearest(data):
    for names, said in (
        ("humanevel", "did you mean humaneval"),
        ("mbpp:go", "mbpp has one language"),
        ("demiurgic-mini:cobol", "has no language 'cobol'"),
        ("", "names none"),
        ("mbpp,mbpp", "names one twice"),
    ):
        with pytest.raises(UserError, match=said):
            load_benchmarks(names, data)
    assert len(NAMES) == 12


def test_a_part_of_mbpp_is_refused(data):
    with pytest.raises(UserError, match="has no task_id"):
        mbpp_problems([{"task_id": 11, "text": "", "code": "", "test_list": [], "test_setup_code": ""}])


def test_an_open_remark_does_not_swallow_a_chat_answer(data):
    for language in ("js", "cpp", "go", "rust", "java"):
        problem = named(load_benchmark(f"humanevalpack-synthesize:{language}", data), 1)
        preamble = problem.judging.preamble
        assert preamble.count("/*") == preamble.count("*/")
