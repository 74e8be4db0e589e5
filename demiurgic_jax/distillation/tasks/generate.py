"""Generate: a function is written from words alone."""

import ast
import json
import random
import re
from collections.abc import Sequence
from typing import Any

from demiurgic_jax.curation.code import definitions
from demiurgic_jax.curation.python_code import syntax_tree
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.answers import code_in, fenced, useless
from demiurgic_jax.distillation.tasks.behaviour import Case, check_cases
from demiurgic_jax.distillation.tasks.checks import Check
from demiurgic_jax.distillation.tasks.code_answer import code_of, judge_code
from demiurgic_jax.distillation.tasks.functions import Function, function_named
from demiurgic_jax.distillation.tasks.prompts import DIFFICULTIES, EVOLUTIONS, NAMES, SYSTEM, code_style
from demiurgic_jax.distillation.tasks.task import Kept, Manner, Question, Rejected, Task, Turn, ask_user

_NAMED = re.compile(r"`(?:[^`\n]*?\b)?(\w+)\s*\([^`\n]*`")
_FEWEST_CASES = 3


class Generate(Task):
    """Plainly, the teacher writes a documented function from its signature and first sentence.

    Styled, it invents an exercise inspired by the seed, is given the exercise to solve, and then, without its
    solution, writes cases for it; the solution is kept where it holds them.
    """

    name = "generate"
    most_turns = 3

    def build(self, seed: Seed, draw: random.Random, manner: Manner) -> Question | None:
        if manner.prompts == "styled":
            return _exercise(seed, draw)
        if seed.kind != "function" or not seed.docstring or not seed.docstring.strip():
            return None
        head = _head(seed)
        if head is None:
            return None
        purpose = " ".join(seed.docstring.strip().split("\n\n")[0].split())
        return ask_user(
            f"Write a {NAMES[seed.language]} function `{head}`. Its docstring is: {purpose}\nAnswer with the code only."
        )

    def follow_up(self, seed: Seed, turns: Sequence[Turn]) -> Question | None:
        if not turns[0].styled:
            return None
        name = _exercise_name(turns[0])
        if name is None or len(turns) == 3:
            return None
        language = NAMES[seed.language]
        exercise = turns[0].answer.text.strip()
        if len(turns) == 1:
            style = code_style(random.Random(seed.id + exercise))
            return ask_user(f"{exercise}\n\nSolve this in {language}. {style}", SYSTEM["generate"])
        code = code_of(turns[1].answer, seed.language)
        function = None if isinstance(code, Rejected) else function_named(code, name, seed.language)
        if function is None:
            return None
        return ask_user(
            f"{exercise}\n\nWrite eight test cases for `{name}`, corner cases among them, without solving it. Answer "
            "with one code block that holds a JSON array of objects with the keys `args` (a list, in the order of the "
            'parameters) and `returns`, like [{"args": [1, "a"], "returns": true}]. Use plain values only.',
            SYSTEM["generate"],
        )

    def judge(self, seed: Seed, turns: Sequence[Turn], check: Check) -> Kept | Rejected:
        if turns[0].styled:
            return _judge_exercise(seed, turns, check)

        def look(function: Function) -> dict[str, str] | Rejected:
            return Rejected("stub") if function.stub else {}

        # The original may do more than its first sentence says: only the examples of its documentation bind.
        return judge_code(seed, turns[0].answer, look, "examples" if check == "behaviour" else check)


def _head(seed: Seed) -> str | None:
    if seed.language == "python":
        node = next(iter(syntax_tree(seed.code).body), None)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return None
        keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        return f"{keyword} {seed.name}({ast.unparse(node.args)})"
    found = [each for each in definitions(seed.code, seed.language) if each.kind != "class"]
    if not found:
        return None
    lines = [line.strip() for line in seed.code[: found[0].body_start].splitlines()]
    kept = [line for line in lines if line and not line.startswith(("//", "/*", "*", "#", "@"))]
    return " ".join(kept).rstrip("{ ") or None


def _exercise(seed: Seed, draw: random.Random) -> Question | None:
    if seed.kind == "file":
        return None
    return ask_user(
        f"Let this {NAMES[seed.language]} code inspire you to a programming exercise of your own.\n\n"
        f"{fenced(seed.code, seed.language)}\n\n{draw.choice(EVOLUTIONS)} {draw.choice(DIFFICULTIES)} The exercise is "
        "to write one function that takes and returns plain values (numbers, strings, booleans, lists of them). Give "
        f"its {NAMES[seed.language]} signature in backticks, say exactly what it returns, and give one example. Do not "
        "solve it, and do not mention the code above.",
        SYSTEM["generate"],
    )


def _exercise_name(turn: Turn) -> str | None:
    """The function that the exercise asks for; None where it is no exercise."""
    found = _NAMED.search(turn.answer.text)
    return found[1] if found and len(turn.answer.text.split()) >= 15 and turn.answer.finish_reason == "stop" else None


def _judge_exercise(seed: Seed, turns: Sequence[Turn], check: Check) -> Kept | Rejected:
    exercise = turns[0]
    if reason := useless(exercise.answer.text):
        return Rejected(reason, "the exercise")
    name = _exercise_name(exercise)
    if name is None:
        return Rejected("no exercise", "no signature in backticks, too short or cut off")
    solution = turns[1].answer
    code = code_of(solution, seed.language)
    if isinstance(code, Rejected):
        return code
    function = function_named(code, name, seed.language)
    if function is None:
        return Rejected("another function", f"expected {name}")
    if function.stub:
        return Rejected("stub")
    cases = cases_in(turns[2].answer.text)
    if isinstance(cases, Rejected):
        return cases
    tests = check_cases(cases, seed.language, code, name) if check == "behaviour" else "not run"
    if tests == "failed":
        return Rejected("tests failed", f"not all of {len(cases)} cases hold")
    verdicts = {"syntax": "parses", "tests": tests, "cases": str(len(cases))}
    return Kept(solution.text.strip() + "\n", verdicts, turn=1)


def cases_in(text: str) -> list[Case] | Rejected:
    """The cases that a teacher wrote as JSON."""
    written = code_in(text, "javascript") or text
    try:
        rows: Any = json.loads(written[written.find("[") : written.rfind("]") + 1])
    except (ValueError, RecursionError):
        return Rejected("no test cases", "not a JSON array")
    shaped = isinstance(rows, list) and all(
        isinstance(row, dict) and isinstance(row.get("args"), list) and "returns" in row for row in rows
    )
    if not shaped:
        return Rejected("no test cases", "objects need args and returns")
    cases = [Case(row["args"], row["returns"]) for row in rows]
    if len(cases) < _FEWEST_CASES or len({json.dumps(case.returns) for case in cases}) < 2:
        return Rejected("too few test cases", f"{len(cases)} cases, or all of the same result")
    return cases
