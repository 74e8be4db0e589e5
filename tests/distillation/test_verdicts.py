"""Verdicts checked by hand: for every language, answers of every task that are right, wrong, cheating or unparsable.

What is expected stands in the table; nothing of it is computed.
"""

import json
import random
from collections.abc import Callable

import pytest
from verdict_samples import SAMPLES

from demiurgic_jax.curation.seeds import Seed, cut_seeds
from demiurgic_jax.curation.sources import SourceFile
from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.distillation.tasks.answers import code_in, fenced
from demiurgic_jax.distillation.tasks.registry import TASKS
from demiurgic_jax.distillation.tasks.task import Kept, Manner, Question, Turn
from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.toolchains import why_missing

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")

TARGET = {
    "python": "javascript", "javascript": "python", "typescript": "python", "go": "javascript", "rust": "go",
    "java": "rust", "cpp": "java",
}  # fmt: skip
# Compilers take seconds for each answer.
LANGUAGES = [pytest.param(each, marks=[] if each in ("python", "javascript") else pytest.mark.slow) for each in SAMPLES]
REPORT = "The comparison was the wrong way round.\n\n"
PROSE = "I am sorry, but I would rather talk about the weather."
EXERCISE = (
    "Write `{name}(values, limit)`. It returns how many values stand in the longest unbroken row of values that are "
    "above the limit; for no values it is 0. For [1, 5, 6] and 2 it is 2."
)
CASES = json.dumps([
    {"args": [[1, 5, 6], 2], "returns": 2}, {"args": [[], 0], "returns": 0}, {"args": [[3, 3, 0, 3], 1], "returns": 2},
    {"args": [[2, 2], 2], "returns": 0},
])  # fmt: skip


def seed_of(language: str) -> Seed:
    sample = SAMPLES[language]
    cut = cut_seeds([SourceFile("runs", sample.file, language, "MIT", "0")], min_lines=3)
    return next(seed for seed in cut if seed.name.rpartition(".")[2] == sample.name)


def question(task: str, seed: Seed, manner: Manner, wanted: Callable[[str], bool], raw: bool = False) -> Question:
    for number in range(200):
        built = TASKS[task].build(seed, random.Random(number), manner)
        if built and (built.prompt is not None) == raw and wanted(built.prompt or built.messages[-1].content):
            return built
    raise AssertionError(f"no such question of {task}")


def verdict(task: str, seed: Seed, first: Question, *answers: str) -> str:
    """Asks what the task asks, gives it `answers`, and says how it ends: the reason, or "kept" and what tests said."""
    turns: list[Turn] = []
    asked: Question | None = first
    for answer in answers:
        assert asked is not None, "more answers than questions"
        request = CompletionRequest(messages=asked.messages, prompt=asked.prompt, stop=asked.stop)
        turns.append(Turn(request, Completion(answer, "stop", 1, 1), asked.language or seed.language))
        asked = TASKS[task].follow_up(seed, turns)
    assert asked is None, "a question is left without an answer"
    judged = TASKS[task].judge(seed, turns, "behaviour")
    if isinstance(judged, Kept):
        return f"kept, {judged.verdicts.get('tests', 'no tests')}"
    return judged.reason


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_verdict_is_the_one_that_a_person_gives(language):
    for each in (language, TARGET[language]):
        if why_missing(each):
            pytest.skip(f"{each}: {why_missing(each)}")
    sample, seed, styled = SAMPLES[language], seed_of(language), Manner("styled")
    original, simpler = sample.function(), sample.function(sample.simpler)
    wrong = sample.function(sample.body.replace("> limit", "< limit"))
    wrong_simpler = sample.function(sample.simpler.replace("> limit", "< limit").replace("<= limit", ">= limit"))
    larger = sample.function(sample.body.replace("> limit", "> limit + 0 * limit - 0"))
    cheat, stub = sample.function(sample.cheat), sample.function(sample.stub)
    renamed = simpler.replace(sample.name, "other")
    broken = sample.function("    ) limit (\n")

    def code(text: str) -> str:
        return fenced(text, language)

    begun = question("complete", seed, Manner(), lambda text: text.endswith(sample.head.rstrip()[-9:]), raw=True)
    prompt = begun.prompt or ""
    rest = seed.code[len(prompt) :]
    wrong_rest = "\n" + sample.body.replace("> limit", "< limit") + sample.foot
    gap = question("complete", seed, styled, lambda text: "<FILL_IN>" in text and "> limit" not in text)
    before, _, after = (code_in(gap.messages[-1].content, language) or "").partition("<FILL_IN>")
    middle = seed.code[len(before) : len(seed.code) - len(after.rstrip()) - 1]
    plain_fix = question("fix", seed, Manner(), lambda text: ">= limit" in text)
    bug = code_in(plain_fix.messages[-1].content, language) or ""
    report_fix = question("fix", seed, styled, lambda text: not text.startswith("Put one bug"))
    report_bug = code_in(report_fix.messages[-1].content, language) or ""
    written_fix = question("fix", seed, styled, lambda text: text.startswith("Put one bug"))
    exercise = question("generate", seed, styled, bool)
    explain = question("explain", seed, styled, bool)
    refactor = question("refactor", seed, styled, bool)
    translate = question("translate", seed, Manner("styled", (TARGET[language],)), bool)
    target = SAMPLES[TARGET[language]]
    asked, told = EXERCISE.format(name=sample.name), "It counts values above limit in a row and returns the best count."
    report = "For the empty list it gives something that is plainly wrong."

    table = [
        ("complete", begun, [rest], "kept, passed"),
        ("complete", begun, [wrong_rest], "tests failed"),
        ("complete", begun, [PROSE], "does not parse"),
        ("complete", begun, [" \n"], "empty"),
        ("complete", gap, [code(middle)], "kept, passed"),
        ("complete", gap, [code(middle.replace("> limit", "< limit"))], "tests failed"),
        ("complete", gap, [code(middle + " ) {{ (")], "does not parse"),
        ("complete", gap, [code(original)], "not the gap alone"),
        ("complete", gap, [code(sample.function(sample.cheat))], "not the gap alone"),
        ("generate", exercise, [asked, code(simpler), fenced(CASES, "json")], "kept, passed"),
        ("generate", exercise, [asked, code(wrong), fenced(CASES, "json")], "tests failed"),
        ("generate", exercise, [asked, code(cheat), fenced(CASES, "json")], "tests failed"),
        ("generate", exercise, [asked, code(simpler), "1. an empty list\n2. a long list"], "no test cases"),
        ("generate", exercise, [asked, code(simpler), '[{"args": [[], 0], "returns": 0}]'], "too few test cases"),
        ("generate", exercise, [asked, code(stub), fenced(CASES, "json")], "stub"),
        ("generate", exercise, [asked, code(renamed)], "another function"),
        ("generate", exercise, [asked, code(broken)], "does not parse"),
        ("generate", exercise, ["Write something nice."], "no exercise"),
        ("explain", explain, [told + " It starts anew at each other one.", code(simpler)], "kept, passed"),
        ("explain", explain, [told + " It is as simple as that.", code(wrong)], "not enough to write it again"),
        ("explain", explain, ["A b c d e f g h i j k l m n o p."], "off the subject"),
        ("explain", explain, ["It counts."], "too short"),
        ("fix", plain_fix, [code(original)], "kept, passed"),
        ("fix", plain_fix, [code(simpler)], "kept, passed"),
        ("fix", plain_fix, [code(bug)], "unchanged"),
        ("fix", plain_fix, [code(wrong)], "tests failed"),
        ("fix", plain_fix, [code(cheat)], "tests failed"),
        ("fix", plain_fix, [code(renamed)], "another function"),
        ("fix", plain_fix, [code(broken)], "does not parse"),
        ("fix", report_fix, [code(original)], "no report"),
        ("fix", report_fix, [REPORT + code(report_bug)], "unchanged"),
        ("fix", written_fix, [code(wrong) + "\n\n" + report, REPORT + code(original)], "kept, passed"),
        ("fix", written_fix, [code(simpler) + "\n\n" + report, REPORT + code(original)], "bug not shown"),
        ("fix", written_fix, [code(original) + "\n\n" + report], "no bug"),
        ("refactor", refactor, [code(simpler)], "kept, passed"),
        ("refactor", refactor, [code(wrong_simpler)], "tests failed"),
        ("refactor", refactor, [code(larger)], "not simpler"),
        ("refactor", refactor, [code(original)], "unchanged"),
        ("refactor", refactor, [code(simpler.replace("limit", "bound"))], "another signature"),
        ("translate", translate, [fenced(target.function())], "kept, passed"),
        ("translate", translate, [fenced(target.function(target.body.replace("> limit", "< limit")))], "tests failed"),
        ("translate", translate, [PROSE], "no code"),
        ("translate", translate, [fenced(target.function(target.stub))], "stub"),
    ]  # fmt: skip
    found = [(task, answers, verdict(task, seed, first, *answers)) for task, first, answers, _ in table]
    expected = [(task, answers, outcome) for task, _, answers, outcome in table]
    wrong_ones = [
        (*each[0], "expected", each[1][2]) for each in zip(found, expected, strict=True) if each[0] != each[1]
    ]
    assert not wrong_ones, "\n\n".join(map(str, wrong_ones))
    assert len(table) >= 20
