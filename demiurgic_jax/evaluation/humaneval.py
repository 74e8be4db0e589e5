"""HumanEval, HumanEval infilling and MBPP: Python problems with asserts.

Prompts and stops are those of the papers (Chen et al. 2021, Bavarian et al. 2022, Austin et al. 2021). A prompt's white
space at its end is left to the model, since a line's end and the next indent are often one token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from demiurgic_jax.curation.python_code import functions
from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.benchmark import Problem, Question
from demiurgic_jax.evaluation.continuation import Continuation

Row = Mapping[str, Any]

HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MBPP_STOPS = ("[DONE]",)
# Rows that the paper shows as examples, and those that it tests on.
MBPP_EXAMPLES = (2, 3, 4)
MBPP_TEST = range(11, 511)


def humaneval_problems(rows: Sequence[Row]) -> list[Problem]:
    return [python_completion(row, row["test"], HUMANEVAL_STOPS, "complete") for row in rows]


def python_completion(row: Row, tests: str, stops: tuple[str, ...], skill: str) -> Problem:
    """A function whose head and docstring are `row`'s prompt, tested by `check(candidate)` in `tests`."""
    prompt = row["prompt"]
    asked = prompt.rstrip()
    return Problem(
        id=str(row["task_id"]),
        language="python",
        skill=skill,
        question=Question(asked, _complete_in_chat(asked), stops),
        judging=Continuation(
            "python",
            asked,
            tests,
            row["entry_point"],
            # The head with its docstring is a whole function; the answer's takes its place.
            preamble=prompt,
            stops=stops,
            calls_check=True,
        ),
        canonical=prompt[len(asked) :] + row["canonical_solution"],
    )


def _complete_in_chat(code: str) -> str:
    return f"Complete this Python function. Answer with the whole function in one code block.\n\n```python\n{code}\n```"


def infilling_problems(rows: Sequence[Row]) -> list[Problem]:
    """The hole of a canonical solution is filled; nothing of the prompt is stripped, since the hole is exact."""
    return [
        Problem(
            id=str(row["task_id"]),
            language="python",
            skill="infill",
            question=Question(row["prompt"], _fill_in_chat(row), suffix=row["suffix"]),
            judging=Continuation(
                "python",
                row["prompt"],
                row["test"],
                row["entry_point"],
                after=row["suffix"],
                calls_check=True,
            ),
            canonical=row["canonical_solution"],
        )
        for row in rows
    ]


def _fill_in_chat(row: Row) -> str:
    return (
        "Something is missing from this Python code at <FILL>. Answer with the whole code, completed, in one code "
        f"block.\n\n```python\n{row['prompt']}<FILL>{row['suffix']}\n```"
    )


def mbpp_problems(rows: Sequence[Row]) -> list[Problem]:
    """The 500 test problems, each after the paper's three examples; an answer ends at [DONE]."""
    by_id = {int(row["task_id"]): row for row in rows}
    missing = [number for number in (*MBPP_EXAMPLES, *MBPP_TEST) if number not in by_id]
    if missing:
        raise UserError(f"mbpp.jsonl has no task_id {missing[0]}: give the whole file of 974 rows")
    examples = "".join(
        f"{_mbpp_task(by_id[number])}[BEGIN]\n{_unix(by_id[number]['code'])}\n[DONE]\n\n" for number in MBPP_EXAMPLES
    )
    return [_mbpp_problem(by_id[number], examples) for number in MBPP_TEST]


def _mbpp_problem(row: Row, examples: str) -> Problem:
    task, code = _mbpp_task(row), _unix(row["code"])
    tests = "\n".join([_unix(row["test_setup_code"]), *map(_unix, row["test_list"])])
    names = [each.name for each in functions(code) if f"{each.name}(" in tests]
    return Problem(
        id=f"MBPP/{row['task_id']}",
        language="python",
        skill="generate",
        question=Question(
            f"{examples}{task}[BEGIN]\n", f"{task}\nAnswer with the code in one Python code block.", MBPP_STOPS
        ),
        # A whole program either way: in a chat, no name is asked of it but those of the tests.
        judging=Continuation("python", "", tests, names[-1] if names else "", stops=MBPP_STOPS),
        canonical=code,
    )


def _mbpp_task(row: Row) -> str:
    tests = "\n".join(map(_unix, row["test_list"]))
    return (
        "You are an expert Python programmer, and here is your task: "
        f"{_unix(row['text']).strip()} Your code should pass these tests:\n\n{tests}\n"
    )


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")
