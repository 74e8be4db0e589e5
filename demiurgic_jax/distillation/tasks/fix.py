"""Fix: code has a bug, put there by a mutation or written by the teacher; the teacher is to mend it."""

import random
from collections.abc import Sequence

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.answers import code_in, fenced, is_code, prose_in
from demiurgic_jax.distillation.tasks.behaviour import Outcome, last_name
from demiurgic_jax.distillation.tasks.checks import Check, run_checks
from demiurgic_jax.distillation.tasks.code_answer import judge_code
from demiurgic_jax.distillation.tasks.functions import Function, function_named
from demiurgic_jax.distillation.tasks.mutation import break_code
from demiurgic_jax.distillation.tasks.prompts import NAMES, SYSTEM
from demiurgic_jax.distillation.tasks.task import Kept, Manner, Question, Rejected, Task, Turn, ask_user

_BUG = "Put one bug into this"
_FEWEST_WORDS = 5


class Fix(Task):
    """Kept only if proven: the answer is the original again, or passes the tests of the seed, which the bug fails.

    Styled, half of the bugs are written by the teacher, with a report as a user would write it, and each answer must
    say what was wrong.
    """

    name = "fix"
    tested_seeds_first = True
    most_turns = 2

    def build(self, seed: Seed, draw: random.Random, manner: Manner) -> Question | None:
        if seed.kind not in ("function", "method") or function_named(seed.code, seed.name, seed.language) is None:
            return None
        language = NAMES[seed.language]
        if manner.prompts == "styled" and draw.random() < 0.5:
            return ask_user(
                f"{_BUG} {language} function, one that its tests could miss: it must still run. Give one code block "
                "that holds the whole function without a hint at the bug, then one or two sentences in which a user "
                f"reports what goes wrong, without naming the cause.\n\n{fenced(seed.code, seed.language)}",
                SYSTEM["fix"],
            )
        broken = break_code(seed.code, seed.language, draw, seed.kind)
        if broken is None:
            return None
        if manner.prompts == "plain":
            code = fenced(broken, seed.language)
            return ask_user(f"This {language} function has a bug. Answer with the fixed code only.\n\n{code}")
        return _repair(seed, "It gives wrong results for some input.", broken)

    def follow_up(self, seed: Seed, turns: Sequence[Turn]) -> Question | None:
        if len(turns) > 1 or not turns[0].asked.startswith(_BUG):
            return None
        broken = _written_bug(seed, turns[0])
        return None if isinstance(broken, Rejected) else _repair(seed, prose_in(turns[0].answer.text), broken)

    def judge(self, seed: Seed, turns: Sequence[Turn], check: Check) -> Kept | Rejected:
        if turns[0].asked.startswith(_BUG):
            broken = _written_bug(seed, turns[0])
            if isinstance(broken, Rejected):
                return broken
        else:
            broken = code_in(turns[0].asked, seed.language) or ""
        last = turns[-1]
        if last.styled and len(prose_in(last.answer.text).split()) < _FEWEST_WORDS:
            return Rejected("no report", "the answer does not say what was wrong")
        original = function_named(seed.code, seed.name, seed.language)
        bug = function_named(broken, seed.name, seed.language)
        if original is None or bug is None:  # `build` and `follow_up` ask about functions of this name only
            raise ValueError(f"no function {seed.name} to fix")

        def look(function: Function) -> dict[str, str] | Rejected:
            return Rejected("unchanged") if function.shape == bug.shape else {}

        def tested(function: Function, tests: Outcome) -> dict[str, str] | Rejected:
            # Where the tests pass, they must also have something to say of the bug.
            if check == "behaviour" and tests == "passed" and run_checks(seed, broken, check) != "failed":
                return Rejected("bug not shown", "the tests pass with the bug too")
            if function.shape == original.shape:
                return {"fix": "is the original"}
            if tests == "passed":
                return {"fix": "passes the tests"}
            return Rejected("not proven", "differs from the original")

        return judge_code(seed, last.answer, look, check, tested=tested, turn=len(turns) - 1)


def _repair(seed: Seed, report: str, broken: str) -> Question:
    return ask_user(
        f"This {NAMES[seed.language]} function has a bug. {report} Say in one or two sentences what is wrong, then "
        f"give the repaired function in one code block.\n\n{fenced(broken, seed.language)}",
        SYSTEM["fix"],
    )


def _written_bug(seed: Seed, turn: Turn) -> str | Rejected:
    """The function with the teacher's bug."""
    code = code_in(turn.answer.text, seed.language)
    if code is None or not is_code(code, seed.language):
        return Rejected("no bug", "no code that parses")
    bug, original = (function_named(each, seed.name, seed.language) for each in (code, seed.code))
    if bug is None or original is None:
        return Rejected("no bug", f"no function {last_name(seed.name)}")
    if bug.shape == original.shape:
        return Rejected("no bug", "the function is unchanged")
    if len(prose_in(turn.answer.text).split()) < _FEWEST_WORDS:
        return Rejected("no report", "of the bug")
    return code
