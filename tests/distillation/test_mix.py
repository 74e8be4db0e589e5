"""The share of tasks and languages: limits hold, and what was tested stays."""

from dataclasses import replace

import pytest

from demiurgic_jax.data.completer import Message
from demiurgic_jax.distillation.example import Example
from demiurgic_jax.distillation.mix import mixed
from demiurgic_jax.errors import UserError

ONE = Example(
    "0", "fix", "go", (Message("user", "?"),), None, None, "!", {"tests": "none"}, 1, 1, 0.0, "t", "v", "s", "n", "p",
    "MIT",
)  # fmt: skip
EXAMPLES = [
    replace(ONE, id=f"{task}-{language}-{number}", task=task, language=language,
            verdicts={"tests": "passed" if number % 3 == 0 else "none"})
    for task in ("fix", "explain") for language in ("go", "python") for number in range(30)
]  # fmt: skip


def test_limits_are_numbers_or_shares_and_what_passed_tests_is_taken_first():
    kept = mixed(EXAMPLES, {"explain": 0.25, "fix/go": 12, "python": 40})
    assert sum(each.task == "explain" for each in kept) <= 30
    go_fixes = [each for each in kept if (each.task, each.language) == ("fix", "go")]
    assert len(go_fixes) == 12
    assert sum(each.verdicts["tests"] == "passed" for each in go_fixes) == 10
    assert sum(each.language == "python" for each in kept) <= 40
    assert kept == [each for each in EXAMPLES if each in kept]
    assert mixed(EXAMPLES[::-1], {"explain": 0.25, "fix/go": 12, "python": 40}) == kept[::-1]
    assert mixed(EXAMPLES, {}) == EXAMPLES


@pytest.mark.parametrize("limits", [{"cobol": 3}, {"fix/cobol": 3}, {"explain": -1}, {"explain": "half"}])
def test_limits_that_mean_nothing_are_named(limits):
    with pytest.raises(UserError, match=r"config\.shards\.at_most"):
        mixed(EXAMPLES, limits)
