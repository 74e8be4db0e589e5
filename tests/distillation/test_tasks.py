"""The tasks on real code: what is asked, what is kept, and why the rest is not."""

import random
from dataclasses import replace

import pytest

from demiurgic_jax.curation.python_code import parses
from demiurgic_jax.curation.seeds import Seed, cut_seeds
from demiurgic_jax.curation.sources import SourceFile, read_folder, standard_library
from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.requests import plan_requests
from demiurgic_jax.distillation.tasks.answers import code_in, fenced, prose_in
from demiurgic_jax.distillation.tasks.doctests import has_examples
from demiurgic_jax.distillation.tasks.functions import function_named
from demiurgic_jax.distillation.tasks.mutation import break_code
from demiurgic_jax.distillation.tasks.registry import TASKS
from demiurgic_jax.distillation.tasks.task import Kept, Manner, Rejected, Turn
from demiurgic_jax.errors import UserError
from demiurgic_jax.sandbox.bubblewrap import why_unavailable

ALL = {name: 12 for name in TASKS if name != "translate"}  # which needs seeds that plain data can call
needs_bubblewrap = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
MIDDLE = '''import math

def middle(low, high):
    """Return the point halfway between low and high.

    >>> middle(2, 4)
    3
    >>> middle(-3, 3)
    0
    """
    if low > high:
        low, high = high, low
    total = low + high
    return math.floor(total / 2)
'''


@pytest.fixture(scope="module")
def seeds():
    folder, licence = standard_library()
    return list(cut_seeds(read_folder(folder / "email", licence=licence), max_lines=40))


@pytest.fixture(scope="module")
def middle() -> Seed:
    (seed,) = cut_seeds([SourceFile("middle.py", MIDDLE, "python", "MIT", "0")])
    return seed


def plan(seeds, **options):
    return plan_requests(seeds, **{"tasks": ALL, "seed": 1, "max_tokens": 64, **options})


def judge(name, seed, text, *, finish="stop", sandbox=False, number=0) -> Kept | Rejected:
    question = TASKS[name].build(seed, random.Random(number), Manner())
    assert question is not None
    request = CompletionRequest(messages=question.messages, prompt=question.prompt, stop=question.stop)
    turn = Turn(request, Completion(text, finish, 1, 1), question.language or seed.language)
    return TASKS[name].judge(seed, [turn], "examples" if sandbox else "parse")


def reason(*args, **options) -> str:
    judged = judge(*args, **options)
    assert isinstance(judged, Rejected)
    return judged.reason


def test_plans_are_a_pure_function_of_their_seed(seeds):
    planned = plan(seeds)
    assert planned == plan(list(reversed(seeds)))
    assert planned != plan(seeds, seed=2)
    assert {task: sum(each.task == task for each in planned) for task in ALL} == ALL
    by_id = {seed.id: seed for seed in seeds}
    for each in planned:
        seed = by_id[each.seed_id]
        assert (each.path, each.licence, each.language, each.seed_name) == (
            seed.path, seed.licence, "python", seed.name,
        )  # fmt: skip
        assert (each.request.prompt is None) == (each.task != "complete")
    assert len({each.request.seed for each in planned}) == len(planned)


def test_tasks_that_live_by_tests_are_asked_about_tested_seeds_first(seeds, middle):
    assert has_examples(middle)
    assert not any(map(has_examples, seeds))
    for name in ALL:
        task = TASKS[name]
        asked_about = [each.seed_id for each in plan([*seeds, middle], tasks={name: len(seeds) + 1})]
        assert middle.id in asked_about
        assert (asked_about[0] == middle.id) == task.tested_seeds_first


def test_each_task_has_its_own_length_and_unknown_tasks_are_named(seeds):
    planned = plan(seeds, max_tokens={name: 10 * len(name) for name in TASKS}, temperature=0.7, top_p=0.9, logprobs=3)
    assert all(each.request.max_tokens == 10 * len(each.task) for each in planned)
    assert {(each.request.temperature, each.request.top_p, each.request.logprobs) for each in planned} == {
        (0.7, 0.9, 3)
    }
    with pytest.raises(UserError, match="unknown task 'compose': choose among complete"):
        plan(seeds, tasks={"compose": 1})
    with pytest.raises(UserError, match="no entry for task 'fix'"):
        plan(seeds, tasks={"fix": 1}, max_tokens={"explain": 5})


def test_few_seeds_are_asked_again_only_where_sampling_differs(seeds, middle):
    assert len(plan([middle], tasks={"generate": 5})) == 1
    again = plan([middle], tasks={"generate": 5}, temperature=0.8)
    assert len({each.request.seed for each in again}) == 5
    assert plan([], tasks={"generate": 5}, temperature=0.8) == []


def test_the_original_is_a_kept_answer_to_complete_generate_and_fix(seeds):
    by_id = {seed.id: seed for seed in seeds}
    for each in plan(seeds):
        seed = by_id[each.seed_id]
        if each.task == "complete":
            assert seed.code.startswith(each.request.prompt)
            text = seed.code[len(each.request.prompt) :]
        else:
            text = "Here it is:\n\n" + fenced(seed.code)
        judged = TASKS[each.task].judge(seed, [Turn(each.request, Completion(text, "stop", 1, 1))], "parse")
        if each.task in ("complete", "generate", "fix"):
            assert isinstance(judged, Kept), (each.task, judged, seed.code)
            assert judged.completion.strip() == text.strip()
        elif each.task == "refactor":
            assert judged == Rejected("unchanged")


def test_broken_code_differs_in_one_place_and_still_parses(seeds):
    broken = 0
    for seed in seeds:
        mutant = break_code(seed.code, "python", random.Random(seed.id))
        if mutant is None:
            continue
        broken += 1
        assert parses(mutant)
        changed = [(a, b) for a, b in zip(seed.code.splitlines(), mutant.splitlines(), strict=True) if a != b]
        assert len(changed) == 1
        name = seed.name.rpartition(".")[2]
        assert function_named(seed.code, name).shape != function_named(mutant, name).shape
    assert broken > len(seeds) / 2


def test_complete_keeps_whole_lines_that_parse_behind_the_prompt(middle):
    def build_of(number):
        return TASKS["complete"].build(middle, random.Random(number), Manner()).prompt

    number = next(n for n in range(50) if build_of(n).endswith('"""'))
    body = "\n    if low > high:\n        return 0\n    return (low + hi"
    kept = judge("complete", middle, body, finish="length", number=number)
    assert kept == Kept("\n    if low > high:\n        return 0\n", {"syntax": "parses", "tests": "not run"})
    assert reason("complete", middle, "This function returns the middle.\n", number=number) == "does not parse"
    assert reason("complete", middle, "\n    # nothing\n", number=number) == "adds no code"
    assert reason("complete", middle, "", number=number) == "empty"
    assert reason("complete", middle, "\n    x = 1" * 30, number=number) == "repeats itself"


def test_generate_names_every_reason(middle):
    good = fenced("def middle(low, high):\n    return (low + high) // 2")
    assert isinstance(judge("generate", middle, good), Kept)
    assert reason("generate", middle, "") == "empty"
    assert reason("generate", middle, "You could add the two and divide.") == "no code"
    assert reason("generate", middle, good[:-4], finish="length") == "cut off"
    assert reason("generate", middle, "```python\ndef middle(low, high) return\n```") == "does not parse"
    assert reason("generate", middle, fenced("def centre(low, high):\n    return 1")) == "another function"
    assert reason("generate", middle, fenced("def middle(low, high):\n    pass")) == "stub"
    assert reason("generate", middle, "```\n" + "x = 1\n" * 20 + "```") == "repeats itself"


def test_fix_keeps_only_what_is_proven(middle):
    broken = TASKS["fix"].build(middle, random.Random(3), Manner()).messages[0].content
    assert function_named(code_in(broken), "middle").shape != function_named(middle.code, "middle").shape
    assert judge("fix", middle, fenced(middle.code), number=3).verdicts["fix"] == "is the original"
    assert reason("fix", middle, fenced(code_in(broken)), number=3) == "unchanged"
    other = fenced("def middle(low, high):\n    return (low + high) // 2")
    assert reason("fix", middle, other, number=3) == "not proven"


def test_explain_keeps_prose_about_the_code(middle):
    text = "The function middle puts low and high in order, adds them up, and returns half of the sum. It then"
    assert judge("explain", middle, text, finish="length").completion.endswith("half of the sum.\n")
    assert reason("explain", middle, "It adds things.") == "too short"
    assert reason("explain", middle, "A B C D E F G H I J K L M N O P") == "off the subject"
    assert reason("explain", middle, "middle adds low and high and then goes on", finish="length") == "cut off"
    assert reason("explain", middle, fenced(middle.code)) == "too short"


def test_refactor_keeps_another_code_of_the_same_signature_that_is_not_larger(middle):
    simpler = fenced("def middle(low, high):\n    return math.floor((low + high) / 2)")
    assert isinstance(judge("refactor", middle, simpler), Kept)
    assert reason("refactor", middle, fenced(middle.code + "# same")) == "unchanged"
    assert reason("refactor", middle, fenced("def middle(low):\n    return low")) == "another signature"
    larger = middle.code.replace("    total =", "    if low == high:\n        return low + 0 * high - 0\n    total =")
    assert reason("refactor", middle, fenced(larger)) == "not simpler"


@needs_bubblewrap
def test_docstring_examples_decide_where_there_are_some(middle):
    right = fenced("def middle(low, high):\n    return (low + high) // 2")
    wrong = fenced("def middle(low, high):\n    return high - low")
    for name in ("generate", "fix", "refactor"):
        assert judge(name, middle, right, sandbox=True).verdicts["tests"] == "passed"
        assert reason(name, middle, wrong, sandbox=True) == "tests failed"
    assert judge("fix", middle, right, sandbox=True).verdicts["fix"] == "passes the tests"
    cheat = fenced("import os\ndef middle(low, high):\n    os._exit(0)")
    assert reason("generate", middle, cheat, sandbox=True) == "tests failed"
    alone = replace(middle, imports="")  # its own code does not pass by itself, so the examples say nothing
    assert judge("generate", alone, wrong, sandbox=True).verdicts["tests"] == "none"


@needs_bubblewrap
def test_real_docstring_examples_run():
    folder, licence = standard_library()
    source = (folder / "statistics.py").read_text()
    seeds = cut_seeds([SourceFile("statistics.py", source, "python", licence, "0")], max_lines=90)
    median = next(seed for seed in seeds if seed.name == "median")
    assert judge("generate", median, fenced(median.code), sandbox=True).verdicts["tests"] == "passed"
    wrong = fenced("def median(data):\n    return sorted(data)[0]")
    assert reason("generate", median, wrong, sandbox=True) == "tests failed"


def test_code_is_found_in_fences_and_alone():
    assert code_in("Sure:\n```python\nx = 1\n```\nand\n```\ny\n```") == "x = 1\n"
    assert code_in("```py\nx = 1\n") == "x = 1\n"
    assert code_in("x = 1\n") == "x = 1\n"
    assert code_in("No code here.") is None
    assert prose_in("a\n```\nb\n```\nc") == "a\n\nc"
