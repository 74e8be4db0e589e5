"""From a real teacher's stored answers to examples, in an order that depends on the plan alone."""

import asyncio
import json

import pytest
from faulty_server import serving

from demiurgic_jax.curation.decontamination import Benchmarks
from demiurgic_jax.curation.near_duplicates import MinHashConfig
from demiurgic_jax.curation.seeds import cut_seeds
from demiurgic_jax.curation.sources import read_folder, standard_library
from demiurgic_jax.distillation.asking import Pace, ask_all
from demiurgic_jax.distillation.example import read_examples, write_examples, write_rejections
from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.panel import Panel
from demiurgic_jax.distillation.pricing import NANODOLLARS, Price
from demiurgic_jax.distillation.requests import plan_requests
from demiurgic_jax.distillation.tasks.answers import fenced
from demiurgic_jax.distillation.tasks.registry import TASKS
from demiurgic_jax.distillation.teacher import HttpTeacher
from demiurgic_jax.distillation.verification import Screen, verify_all
from demiurgic_jax.errors import UserError
from demiurgic_jax.sandbox.bubblewrap import bubblewrap_available


@pytest.fixture(scope="module")
def seeds():
    folder, licence = standard_library()
    return list(cut_seeds(read_folder(folder / "json", licence=licence), max_lines=40))


def ask(url, path, requests, concurrency):
    async def inside():
        async with HttpTeacher(url, "test-model", price=Price(1, 10)) as teacher:
            with Ledger(path, model="test-model") as ledger:
                return await ask_all(Panel([teacher]), ledger, requests, pace=Pace(concurrency=concurrency))

    return asyncio.run(inside())


def verify(path, requests, seeds, **options):
    with Ledger(path, model="test-model") as ledger:
        return verify_all(
            requests, ledger, seeds, **{"check": "examples" if bubblewrap_available() else "parse", **options}
        )


def test_examples_carry_their_origin_and_do_not_depend_on_arrival(seeds, tmp_path):
    requests = plan_requests(
        seeds, tasks={name: 6 for name in TASKS if name != "translate"}, seed=3, max_tokens=80, temperature=0.5
    )
    by_text = {}
    for request in requests:
        question = request.request
        by_text[question.prompt or question.messages[0].content] = next(
            seed for seed in seeds if seed.id == request.seed_id
        )

    def reply(body):
        """Real code for most, nonsense for some."""
        text = body.get("prompt") or body["messages"][0]["content"]
        code = by_text[text].code
        if body["seed"] % 4 == 0:
            return "I would rather not say."
        return code[len(text) :] if "prompt" in body else fenced(code)

    results = []
    for concurrency in (1, 6):
        path = tmp_path / f"ledger-{concurrency}.sqlite"
        with serving(reply) as server:
            ask(server.url, path, requests, concurrency)
        examples, rejections = verify(path, requests, seeds)
        write_examples(tmp_path / f"{concurrency}.jsonl", examples)
        write_rejections(tmp_path / f"{concurrency}-rejected.jsonl", rejections)
        results.append((examples, rejections))
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "6.jsonl").read_bytes()
    assert (tmp_path / "1-rejected.jsonl").read_bytes() == (tmp_path / "6-rejected.jsonl").read_bytes()
    assert read_examples(tmp_path / "1.jsonl") == results[0][0]

    examples, rejections = results[0]
    assert len(examples) + len(rejections) == len({(each.task, each.request) for each in requests})
    assert {example.task for example in examples} >= {"complete", "fix"}
    assert {rejection.reason for rejection in rejections} >= {"no code", "unchanged"}
    for example in examples:
        assert (example.licence, example.language, example.teacher) == ("PSF-2.0", "python", "test-model")
        assert example.path.endswith(".py")
        tokens = example.prompt_tokens, example.completion_tokens
        assert example.cost == pytest.approx(Price(1, 10).cost(*tokens) / NANODOLLARS)
        assert example.completion.endswith("\n")


def test_unanswered_requests_give_nothing_and_equal_answers_count_once(seeds, tmp_path):
    requests = plan_requests(seeds[:1], tasks={"complete": 3}, seed=3, max_tokens=80, temperature=0.5)
    prompts = {request.request.prompt for request in requests}
    with serving(lambda body: "    return None\n") as server:
        ask(server.url, tmp_path / "l.sqlite", requests[:2] + requests[:1], 1)
    done = []
    examples, rejections = verify(
        tmp_path / "l.sqlite", requests, seeds, progress=lambda *numbers: done.append(numbers)
    )
    assert len(examples) + len(rejections) == 2
    assert done == [(1, 2), (2, 2)]
    if len(prompts) == 1:
        assert [rejection.reason for rejection in rejections] == ["duplicate"]


def test_an_answer_of_absurd_depth_is_rejected_not_raised(seeds, tmp_path):
    requests = plan_requests(seeds, tasks={"generate": 1, "refactor": 1, "fix": 1}, seed=3, max_tokens=80)
    deep = {request.request.messages[0].content: request.seed_name.rpartition(".")[2] for request in requests}

    def reply(body):
        return f"```python\ndef {deep[body['messages'][0]['content']]}(x):\n    return x{' + 1' * 3000}\n```"

    with serving(reply) as server:
        ask(server.url, tmp_path / "l.sqlite", requests, 1)
    examples, rejections = verify(tmp_path / "l.sqlite", requests, seeds, check="parse")
    assert len(examples) + len(rejections) == 3
    assert {rejection.task for rejection in rejections} >= {"fix", "refactor"}
    assert {rejection.reason for rejection in rejections} <= {"nested too deep", "does not parse", "another signature"}


def test_seeds_of_another_cut_are_refused(seeds, tmp_path):
    requests = plan_requests(seeds, tasks={"explain": 2}, seed=3, max_tokens=80)
    with pytest.raises(UserError, match=f"seed {requests[0].seed_id} of {requests[0].path} is missing"):
        verify(tmp_path / "l.sqlite", requests, [])


def test_bad_example_rows_are_named(tmp_path):
    path = tmp_path / "examples.jsonl"
    path.write_text(json.dumps({"id": "x"}) + "\n")
    with pytest.raises(UserError, match=r"examples\.jsonl line 1 is not an example"):
        read_examples(path)


def test_copies_of_benchmarks_and_of_each_other_do_not_pass_and_secrets_are_redacted(seeds, tmp_path):
    problem = (
        "Given a list of daily temperatures, return for every day how many days one has to wait until a warmer one, or "
        "zero where no such day comes before the list ends."
    )
    key = "ghp_" + "a1B2c3D4" * 4 + "e5F6"
    long = " ".join(f"It looks at part {number} of what it is given." for number in range(12))
    requests = plan_requests(seeds, tasks={"explain": 5}, seed=3, max_tokens=80)
    by_question = {each.request.messages[0].content: number for number, each in enumerate(requests)}
    names = [each.seed_name.rpartition(".")[2] for each in requests]

    def reply(body):
        number = by_question[body["messages"][0]["content"]]
        return f"{names[number]}: " + [
            problem, long, long, f"it sends {key} to the server that answers all of the questions in the end.",
            "something of its own, which nobody else has said in so many words before today.",
        ][number]  # fmt: skip

    path = tmp_path / "ledger.sqlite"
    with serving(reply) as server:
        ask(server.url, path, requests, 1)
    screen = Screen(
        benchmarks=Benchmarks({"Own/7": {"prompt": problem}}), near_duplicates=MinHashConfig(), redact=("secrets",)
    )
    examples, rejections = verify(path, requests, seeds, screen=screen)
    assert [(each.reason, each.detail[:5]) for each in rejections] == [
        ("benchmark problem", "Own/7"), ("near-duplicate", "of " + examples[0].id[:2]),
    ]  # fmt: skip
    assert len(examples) == 3
    assert key not in str(examples)
    assert "GITHUB" in examples[1].completion
    assert len(verify(path, requests, seeds)[0]) == 5
    with Ledger(path, model="test-model") as ledger:
        assert ledger.summary().attempts == 5
        assert all(verdict.kept for verdict in ledger.verdicts().values())
