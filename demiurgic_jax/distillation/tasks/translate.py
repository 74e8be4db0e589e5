"""Translate: a function goes to the teacher in one language and comes back in another."""

import random
from collections.abc import Sequence

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.answers import fenced
from demiurgic_jax.distillation.tasks.behaviour import cases_of, check_cases, last_name, seed_signature
from demiurgic_jax.distillation.tasks.checks import Check
from demiurgic_jax.distillation.tasks.code_answer import code_of
from demiurgic_jax.distillation.tasks.functions import function_like
from demiurgic_jax.distillation.tasks.prompts import NAMES, SYSTEM, code_style
from demiurgic_jax.distillation.tasks.task import Kept, Manner, Question, Rejected, Task, Turn, ask_user


class Translate(Task):
    """Suits functions that plain data can call: the cases of the one language judge the code of the other. Where
    nothing may be run here, what parses is kept; else only what passes."""

    name = "translate"
    tested_seeds_first = True

    def build(self, seed: Seed, draw: random.Random, manner: Manner) -> Question | None:
        others = [language for language in manner.targets if language != seed.language]
        if seed_signature(seed) is None or not others:
            return None
        target = draw.choice(others)
        styled = manner.prompts == "styled"
        style = code_style(draw) if styled else "Answer with the code only."
        return ask_user(
            f"Translate this {NAMES[seed.language]} function to {NAMES[target]}. Keep its name, in the manner of "
            f"{NAMES[target]}, and its parameters. {style}\n\n{fenced(seed.code, seed.language)}",
            SYSTEM["translate"] if styled else "",
            language=target,
        )

    def judge(self, seed: Seed, turns: Sequence[Turn], check: Check) -> Kept | Rejected:
        (turn,) = turns
        code = code_of(turn.answer, turn.language)
        if isinstance(code, Rejected):
            return code
        function = function_like(code, turn.language, last_name(seed.name))
        if function is None:
            return Rejected("another function", f"expected {last_name(seed.name)}")
        if function.stub:
            return Rejected("stub")
        verdicts = {"syntax": "parses", "tests": "not run"}
        if check == "behaviour":
            cases = cases_of(seed)
            if not cases:
                return Rejected("not proven", "the original cannot be run by itself")
            verdicts["tests"] = check_cases(cases, turn.language, code, function.name)
            if verdicts["tests"] == "failed":
                return Rejected("tests failed")
        return Kept(turn.answer.text.strip() + "\n", verdicts)
