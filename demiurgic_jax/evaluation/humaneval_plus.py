"""HumanEval+ and MBPP+ (Liu et al. 2023): the reference solution says what every input should give.

The rules of comparison are EvalPlus's: floats within 1e-6 unless a tolerance is given, and a few problems for which
other results are right too.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from demiurgic_jax.evaluation.benchmark import Problem, Question
from demiurgic_jax.evaluation.continuation import Continuation
from demiurgic_jax.evaluation.humaneval import python_completion

Row = Mapping[str, Any]

_ENDS = ("\nif __name__", "\ndef main(", "\nprint(")
HUMANEVAL_PLUS_STOPS = (*_ENDS, "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ")
MBPP_PLUS_STOPS = (*_ENDS, '\n"""', "\nassert")

# Tuples, sets and complex numbers that JSON could not hold, by the number of the MBPP problem (EvalPlus, data/mbpp.py).
_TUPLES = {2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809}
_LISTS_OF_TUPLES = {63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780}
_FIRST_LIST_OF_TUPLES = {75, 413, 444, 753}
_SECOND_TUPLE = {106, 750}
_FIRST_TUPLE = {250, 307, 405, 446, 617, 720, 763, 808}
_TUPLES_OF_TUPLES = {259, 401, 445}
_ALL_TUPLES = {580, 615, 791}
# Where the order of a result does not count, and where any result but None is a match.
_AS_SETS = {"similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum"}
_AS_SETS |= {"intersection_array", "find_dissimilar", "Diff"}
_NOT_NONE = {"check_str", "text_match_three", "text_starta_endb"}
# Whose reference is in doubt: one result for every input is taken too.
_CONSTANT = {"are_equivalent": True, "sum_div": 0}

_CHECK = """
import copy as _copy
import math as _math

def _floats(value):
    return isinstance(value, float) or (isinstance(value, (list, tuple)) and all(isinstance(x, float) for x in value))

def _near(got, want, atol):
    if isinstance(want, (list, tuple)):
        return isinstance(got, (list, tuple)) and len(got) == len(want) and all(
            _near(a, b, atol) for a, b in zip(got, want))
    if isinstance(want, dict):
        return isinstance(got, dict) and got.keys() == want.keys() and all(_near(got[k], want[k], atol) for k in want)
    if isinstance(want, (int, float)) and isinstance(got, (int, float)):
        if _math.isnan(want) or _math.isnan(got):
            return _math.isnan(want) and _math.isnan(got)
        return got == want or abs(got - want) <= atol + 1e-7 * abs(want)
    return got == want

def _same(got, want, inputs):
    if _ORACLE == "root":
        return abs(sum(c * got ** i for i, c in enumerate(inputs[0]))) <= _ATOL
    if _ORACLE == "set":
        return set(got) == set(want)
    if _ORACLE == "not none":
        return (got is not None) == (want is not None) if not isinstance(got, bool) else got == bool(want)
    if got == want:
        return True
    atol = _ATOL or (1e-6 if _floats(want) else 0)
    return bool(atol) and _near(got, want, atol)

def check(candidate):
    space = {}
    exec(_REFERENCE, space)
    reference = space[_NAME]
    if _CONSTANT is not None and all(candidate(*_copy.deepcopy(inputs)) == _CONSTANT for inputs in _INPUTS):
        return
    for number, inputs in enumerate(_INPUTS, 1):
        want = reference(*_copy.deepcopy(inputs))
        got = candidate(*_copy.deepcopy(inputs))
        assert _same(got, want, inputs), f"input {number} of {len(_INPUTS)}: {inputs!r:.200}"
"""


def humaneval_plus_problems(rows: Sequence[Row]) -> list[Problem]:
    return [
        python_completion(
            row, plus_tests(row, [*row["base_input"], *row["plus_input"]]), HUMANEVAL_PLUS_STOPS, "complete"
        )
        for row in rows
    ]


def mbpp_plus_problems(rows: Sequence[Row]) -> list[Problem]:
    """The prompt is a docstring with one assert; the answer is the whole program."""
    problems = []
    for row in rows:
        prompt, name = row["prompt"], row["entry_point"]
        inputs = [as_published(str(row["task_id"]), list(each)) for each in [*row["base_input"], *row["plus_input"]]]
        problems.append(
            Problem(
                id=str(row["task_id"]),
                language="python",
                skill="generate",
                question=Question(prompt, f"{prompt}\nAnswer with the code in one Python code block.", MBPP_PLUS_STOPS),
                judging=Continuation(
                    "python", prompt, plus_tests(row, inputs), name, stops=MBPP_PLUS_STOPS, calls_check=True
                ),
                canonical=row["canonical_solution"],
            )
        )
    return problems


def plus_tests(row: Row, inputs: Sequence[Sequence[Any]]) -> str:
    """A `check(candidate)` that asks the reference solution, beside it in the tests' process, for every input."""
    name = row["entry_point"]
    oracle = "root" if name == "find_zero" else "set" if name in _AS_SETS else "not none" if name in _NOT_NONE else ""
    reference = row["canonical_solution"]
    if f"def {name}" not in reference:
        reference = row["prompt"] + reference
    heads = [f"_NAME = {name!r}", f"_ATOL = {row['atol']!r}", f"_ORACLE = {oracle!r}", f"_REFERENCE = {reference!r}"]
    heads += [f"_CONSTANT = {_CONSTANT.get(name)!r}"]
    plain = json.dumps(inputs) if _is_json(inputs) else None
    values = f"__import__('json').loads({plain!r})" if plain is not None else _literal(inputs)
    return "\n".join([*heads, f"_INPUTS = {values}", _CHECK])


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, str | int | float)


def _literal(value: Any) -> str:
    """Like repr, but infinities and NaN can be read back."""
    if isinstance(value, float):
        return f"float({str(value)!r})" if value != value or value in (float("inf"), float("-inf")) else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, tuple):
        return f"({''.join(_literal(each) + ', ' for each in value)})"
    if isinstance(value, set):
        return f"{{{', '.join(map(_literal, value))}}}" if value else "set()"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(key)}: {_literal(item)}' for key, item in value.items())}}}"
    return repr(value)


def as_published(task_id: str, inputs: list[Any]) -> list[Any]:
    """One call's arguments with the types that they had before JSON."""
    number = int(task_id.rpartition("/")[2])
    if number in _TUPLES:
        return [tuple(each) for each in inputs]
    if number in _LISTS_OF_TUPLES:
        return [[tuple(each) for each in values] for values in inputs]
    if number in _FIRST_LIST_OF_TUPLES:
        return [[tuple(each) for each in inputs[0]], inputs[1]]
    if number in _SECOND_TUPLE:
        return [inputs[0], tuple(inputs[1])]
    if number in _FIRST_TUPLE:
        return [tuple(inputs[0]), *inputs[1:]]
    if number in _TUPLES_OF_TUPLES:
        return [tuple(tuple(each) for each in values) for values in inputs]
    if number in _ALL_TUPLES:
        return [_all_tuples(each) for each in inputs]
    if number == 278:
        return [tuple(tuple(item) if isinstance(item, list) else item for item in inputs[0])]
    if number == 115:
        return [[set(item) if isinstance(item, list) and item else {} for item in inputs[0]]]
    if number == 124:
        return [float(inputs[0]), complex(inputs[1])]
    if number == 252:
        return [complex(inputs[0])]
    if number == 722:
        return [{key: tuple(value) for key, value in inputs[0].items()}, *inputs[1:]]
    return inputs


def _all_tuples(value: Any) -> Any:
    return tuple(map(_all_tuples, value)) if isinstance(value, list) else value
