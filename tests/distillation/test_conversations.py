"""Tasks that ask again: the rounds of questions, over HTTP, and what is kept of them."""

import json
import random

import pytest
from faulty_server import serving
from test_verification import ask, verify

from demiurgic_jax.curation.seeds import cut_seeds
from demiurgic_jax.curation.sources import SourceFile
from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.conversations import conversations
from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.requests import plan_requests
from demiurgic_jax.distillation.tasks.complete import Complete
from demiurgic_jax.distillation.tasks.prompts import version
from demiurgic_jax.distillation.tasks.task import Kept, Manner, Turn
from demiurgic_jax.sandbox.bubblewrap import why_unavailable

CODE = '''def double_all(values: list[int]) -> list[int]:
    """Each of the values, twice as large."""
    doubled = []
    for value in values:
        doubled.append(value * 2)
    return doubled
'''
EXERCISE = (
    "Write `squares(values)`: it returns a list of the squares of the values, in their order. "
    "For [2, 3] it gives [4, 9]."
)
SOLUTION = "```python\ndef squares(values):\n    return [value * value for value in values]\n```"
CASES = [{"args": [[2, 3]], "returns": [4, 9]}, {"args": [[]], "returns": []}, {"args": [[-1]], "returns": [1]}]


@pytest.fixture
def seeds():
    return [
        each for each in cut_seeds([SourceFile("double.py", CODE, "python", "MIT", "0")]) if each.kind == "function"
    ]


def reply(body):
    text = body["messages"][-1]["content"]
    if "inspire you" in text:
        return EXERCISE
    return SOLUTION if "Solve this" in text else f"```json\n{json.dumps(CASES)}\n```"


@pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
def test_an_exercise_is_invented_solved_and_tested_in_three_rounds(seeds, tmp_path):
    requests = plan_requests(seeds, tasks={"generate": 1}, seed=1, max_tokens=200, manner=Manner("styled"))
    path = tmp_path / "ledger.sqlite"
    rounds = []
    for _ in range(3):
        with Ledger(path, model="test-model") as ledger:
            (talk,) = conversations(requests, seeds, ledger.answer)
        assert talk.open
        rounds.append(len(talk.requests))
        examples, rejections = verify(path, requests, seeds, check="behaviour")
        assert not examples
        # What is not asked to its end is no verdict on the answer, but it is counted under its name.
        assert [each.reason for each in rejections] == ["follow-up unanswered"] * (len(talk.turns) > 0)
        with serving(reply) as server:
            ask(server.url, path, talk.requests, 2)
    assert rounds == [1, 2, 3]
    (example,), _ = verify(path, requests, seeds, check="behaviour")
    assert example.messages[-1].content.startswith(EXERCISE)
    assert example.completion == SOLUTION + "\n"
    assert example.verdicts == {"syntax": "parses", "tests": "passed", "cases": "3"}
    assert example.version == version("generate", "styled")
    with Ledger(path, model="test-model") as ledger:
        assert example.cost == pytest.approx(ledger.summary().dollars)
        verdicts = ledger.verdicts()
        assert list(verdicts) == [example.id]
        assert verdicts[example.id].kept
        assert verdicts[example.id].seconds > 0


def test_difficulty_and_style_are_spread_over_the_requests_and_depend_on_nothing_else(seeds):
    def texts(manner):
        planned = plan_requests(
            seeds, tasks={"generate": 30, "explain": 30}, seed=1, max_tokens=200, temperature=0.7, manner=manner
        )
        return [each.request.messages[-1].content for each in planned]

    assert texts(Manner("styled")) == texts(Manner("styled"))
    assert len(set(texts(Manner("styled")))) > 12
    assert len(set(texts(Manner("plain")))) == 2
    versions = {each.version for each in plan_requests(seeds, tasks={"fix": 1}, seed=1, max_tokens=9)}
    assert versions == {version("fix", "plain")}


@pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
def test_a_tested_completion_ends_with_its_function(seeds):
    (seed,) = seeds
    question = next(
        built for number in range(20)
        if (built := Complete().build(seed, random.Random(number), Manner())).prompt.endswith("values:")
    )  # fmt: skip
    request = CompletionRequest(prompt=question.prompt, stop=question.stop)
    rest = seed.code[len(question.prompt) :]
    turn = Turn(request, Completion(rest + "\n\n# Example\nprint(double_all([1]))\n", "stop", 1, 1))
    judged = Complete().judge(seed, [turn], "behaviour")
    assert judged == Kept(rest, {"syntax": "parses", "tests": "passed"})


def test_gaps_are_whole_statements_and_the_original_fills_them(seeds):
    (seed,) = seeds
    gaps = set()
    for number in range(60):
        question = Complete().build(seed, random.Random(number), Manner("styled"))
        if question.messages:
            gaps.add(question.messages[-1].content.split("```python\n")[1].split("\n```")[0])
    filled = {
        "doubled = []", "doubled.append(value * 2)", "return doubled",
        "for value in values:\n        doubled.append(value * 2)",
    }  # fmt: skip
    assert gaps == {CODE.replace(each, "<FILL_IN>").rstrip() for each in filled}
