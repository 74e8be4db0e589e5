"""How an answer's code is tested: by the examples in the seed's documentation, and by cases of its behaviour."""

from typing import Literal

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.behaviour import Outcome, cases_of, check_cases, last_name
from demiurgic_jax.distillation.tasks.doctests import run_doctests

# How far verification goes: parsing alone, also the examples in docstrings, also cases of the original's behaviour.
Check = Literal["parse", "examples", "behaviour"]


def run_checks(seed: Seed, code: str, check: Check) -> Outcome:
    """How `code`, which is to do what the seed's function does, does on what there is to test it with.

    "none" where there is nothing, or where the seed's own code does not hold by itself; "not run" where there is, but
    `check` or a missing toolchain forbids it.
    """
    examples = run_doctests(seed, code, sandbox=check != "parse") if seed.language == "python" else "none"
    if examples == "failed" or check != "behaviour":
        return examples
    behaves = behaves_like(seed, code)
    return examples if behaves == "none" else behaves


def behaves_like(seed: Seed, code: str) -> Outcome:
    """Whether `code` gives what the seed's function gives for the same arguments. Runs both in the sandbox."""
    return check_cases(cases_of(seed), seed.language, code, last_name(seed.name), seed.imports)
