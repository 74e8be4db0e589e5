"""MultiPL-E (Cassano et al. 2022): HumanEval in TypeScript. Prompts and stop tokens are those of its rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.benchmark import Problem, Question
from demiurgic_jax.evaluation.continuation import Continuation


def typescript_problems(rows: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """MultiPL-E has no solutions, so `canonical` is empty."""
    problems = []
    for row in rows:
        if row["language"] != "ts":
            raise UserError(f"{row['name']} is in {row['language']!r}: only MultiPL-E's TypeScript (ts) is read here")
        asked = row["prompt"].rstrip()
        stops = tuple(row["stop_tokens"])
        # HumanEval_89_encrypt
        name = row["name"].split("_", 2)[2]
        chat = f"Complete this TypeScript function. Answer with the whole function in one code block.\n\n{asked}\n"
        problems.append(
            Problem(
                id=row["name"],
                language="typescript",
                skill="complete",
                question=Question(asked, chat, stops),
                judging=Continuation("typescript", asked, row["tests"], name, stops=stops),
                canonical="",
            )
        )
    return problems
