"""Refactor: a function goes to the teacher, a simpler one of the same behaviour comes back."""

import random
from collections.abc import Sequence

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.answers import fenced
from demiurgic_jax.distillation.tasks.behaviour import Outcome
from demiurgic_jax.distillation.tasks.checks import Check
from demiurgic_jax.distillation.tasks.code_answer import judge_code
from demiurgic_jax.distillation.tasks.functions import Function, function_named
from demiurgic_jax.distillation.tasks.prompts import NAMES, SYSTEM, code_style
from demiurgic_jax.distillation.tasks.task import Kept, Manner, Question, Rejected, Task, Turn, ask_user


class Refactor(Task):
    """Kept if the parameters are the same, the code is another and no larger, and the seed's tests, if any, pass. Where
    behaviour is tested, there must be tests, and the code must be smaller, or as large with fewer branches."""

    name = "refactor"
    tested_seeds_first = True

    def build(self, seed: Seed, draw: random.Random, manner: Manner) -> Question | None:
        # A Java function is a method.
        single = seed.kind == "function" or (seed.kind == "method" and seed.language == "java")
        if not single or function_named(seed.code, seed.name, seed.language) is None:
            return None
        wish = f"Rewrite this {NAMES[seed.language]} function so that it is simpler and does the same."
        code = fenced(seed.code, seed.language)
        if manner.prompts == "plain":
            return ask_user(f"{wish} Answer with the code only.\n\n{code}")
        return ask_user(f"{wish} Keep its name and parameters. {code_style(draw)}\n\n{code}", SYSTEM["refactor"])

    def judge(self, seed: Seed, turns: Sequence[Turn], check: Check) -> Kept | Rejected:
        original = function_named(seed.code, seed.name, seed.language)
        assert original is not None, "Refactor.build asks about functions only"

        def look(function: Function) -> dict[str, str] | Rejected:
            if function.shape == original.shape:
                return Rejected("unchanged")
            if function.head != original.head:
                return Rejected("another signature")
            measured = f"{function.size} syntax nodes, the original has {original.size}"
            if function.size > original.size:
                return Rejected("not simpler", measured)
            if check == "behaviour" and function.size == original.size and function.branches >= original.branches:
                return Rejected("not simpler", measured)
            return {
                "size": f"{function.size}/{original.size}",
                "branches": f"{function.branches}/{original.branches}",
            }

        def tested(function: Function, tests: Outcome) -> dict[str, str] | Rejected:
            proven = tests in ("passed", "not run") or check != "behaviour"
            return {} if proven else Rejected("not proven", "the original cannot be run by itself")

        return judge_code(seed, turns[0].answer, look, check, tested=tested)
