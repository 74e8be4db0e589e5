"""Explain: code goes to the teacher, prose comes back."""

import random
import re
from collections.abc import Sequence

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.answers import fenced, prose_in, useless
from demiurgic_jax.distillation.tasks.behaviour import cases_of, seed_signature
from demiurgic_jax.distillation.tasks.checks import Check, behaves_like
from demiurgic_jax.distillation.tasks.code_answer import code_of
from demiurgic_jax.distillation.tasks.functions import first_line
from demiurgic_jax.distillation.tasks.names import names_in
from demiurgic_jax.distillation.tasks.prompts import AUDIENCES, NAMES, SYSTEM
from demiurgic_jax.distillation.tasks.task import Kept, Manner, Question, Rejected, Task, Turn, ask_user

_MIN_WORDS = 12
_SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)")


class Explain(Task):
    """What is kept is prose that names something of the code and ends with a sentence.

    Styled, an explanation of a function that can be called with plain data is also given to the teacher without the
    code: what is written from it must behave as the original does.
    """

    name = "explain"
    most_turns = 2

    def build(self, seed: Seed, draw: random.Random, manner: Manner) -> Question | None:
        if seed.kind == "file":
            return None
        styled = manner.prompts == "styled"
        wish = (draw.choice(AUDIENCES) if styled else AUDIENCES[0]).format(language=NAMES[seed.language])
        return ask_user(f"{wish}\n\n{fenced(seed.code, seed.language)}", SYSTEM["explain"] if styled else "")

    def follow_up(self, seed: Seed, turns: Sequence[Turn]) -> Question | None:
        if len(turns) > 1 or not turns[0].styled or seed_signature(seed) is None:
            return None
        prose = _prose(seed, turns[0])
        if isinstance(prose, Rejected):
            return None
        head = first_line(seed)
        # Code that the explanation quotes would give the answer away.
        return ask_user(
            f"Write the {NAMES[seed.language]} function that is explained here; its first line is `{head}`. Answer "
            f"with one code block and nothing else.\n\n{prose_in(prose)}",
            SYSTEM["explain"],
        )

    def judge(self, seed: Seed, turns: Sequence[Turn], check: Check) -> Kept | Rejected:
        prose = _prose(seed, turns[0])
        if isinstance(prose, Rejected):
            return prose
        verdicts = {"prose": "names the code"}
        if len(turns) > 1:
            outcome = self._written_again(seed, turns[1], check)
            if outcome == "failed":
                return Rejected("not enough to write it again", "what was written from the explanation differs")
            verdicts["tests"] = outcome
        return Kept(prose + "\n", verdicts)

    def _written_again(self, seed: Seed, turn: Turn, check: Check) -> str:
        if check != "behaviour":
            return "not run"
        if not cases_of(seed):
            return "none"
        code = code_of(turn.answer, seed.language)
        return "failed" if isinstance(code, Rejected) else behaves_like(seed, code)


def _prose(seed: Seed, turn: Turn) -> str | Rejected:
    text = turn.answer.text.strip()
    if turn.answer.finish_reason == "length":
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        if not ends:
            return Rejected("cut off")
        text = text[: ends[-1]]
        if text.count("```") % 2:
            return Rejected("cut off", "inside a code block")
    if reason := useless(text):
        return Rejected(reason)
    prose = prose_in(text)
    if len(prose.split()) < _MIN_WORDS:
        return Rejected("too short", f"{len(prose.split())} words of prose")
    if not set(re.findall(r"\w+", prose)) & names_in(seed.code, seed.language):
        return Rejected("off the subject", "names nothing of the code")
    return text
