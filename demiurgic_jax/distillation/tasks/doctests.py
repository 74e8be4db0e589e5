"""The examples in a seed's docstring, run as tests in the sandbox."""

import doctest
import functools

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.behaviour import Outcome
from demiurgic_jax.sandbox.programs import run_tests

_PROGRAM = """
import doctest as _doctest
_examples = _doctest.DocTestParser().get_doctest({docstring!r}, globals(), {name!r}, "docstring", 0)
_results = _doctest.DocTestRunner(verbose=False).run(_examples)
assert _results.attempted and not _results.failed, "docstring examples fail"
"""


def run_doctests(seed: Seed, code: str, *, sandbox: bool) -> Outcome:
    """How `code`, which defines the seed's function, does on the examples of the seed's docstring, given the imports
    of the seed's file.

    "none" where there are no examples, or where the seed's own code does not pass them either when taken by itself;
    "not run" where there are some but no sandbox to run them in.
    """
    tests = _tests(seed)
    if tests is None:
        return "none"
    if not sandbox:
        return "not run"
    if not _holds(seed.imports + seed.code, tests):
        return "none"
    return "passed" if run_tests("python", seed.imports + code, tests).passed else "failed"


def has_examples(seed: Seed) -> bool:
    """Whether there is something to run an answer against."""
    return _tests(seed) is not None


def _tests(seed: Seed) -> str | None:
    if seed.language != "python" or seed.kind != "function" or not seed.docstring:
        return None
    try:
        examples = doctest.DocTestParser().get_examples(seed.docstring)
    except ValueError:  # inconsistent indentation in the examples
        return None
    return _PROGRAM.format(docstring=seed.docstring, name=seed.name) if examples else None


@functools.lru_cache(maxsize=4096)
def _holds(code: str, tests: str) -> bool:
    return run_tests("python", code, tests).passed
