"""What code does, as cases: arguments, and what the original gives for them. One set of cases judges code in any
language (differential testing: McKeeman 1998, Differential Testing for Software)."""

import functools
import itertools
import json
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.calling import calls, whole_program
from demiurgic_jax.distillation.tasks.plain_data import Plain, UnfitError, guesses, same, values
from demiurgic_jax.distillation.tasks.signature import Signature, signature_of
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.verdict import Limits

Outcome = Literal["passed", "failed", "none", "not run"]

# Arguments tried, and of each guess at types where none are given; guesses, of how many; cases kept, and the fewest
# that say something.
_TRIED, _PROBED, _MIXED, _LISTED, _KEPT, _FEWEST = 32, 5, 16, 4096, 16, 3
_LIMITS = Limits(cpu_seconds=2.0)
_RAISED = object()


@dataclass(frozen=True)
class Case:
    """Plain arguments, and the plain value that comes back."""

    arguments: list[Any]
    returns: Any


def seed_signature(seed: Seed) -> Signature | None:
    """The signature of the seed's function where plain data can call it: then it may have cases."""
    if seed.kind != "function" and not (seed.kind == "method" and seed.language == "java"):
        return None
    return signature_of(seed.code, last_name(seed.name), seed.language)


def last_name(qualified: str) -> str:
    """The name of a function without its class or namespace."""
    return qualified.replace("::", ".").rpartition(".")[2]


def cases_of(seed: Seed) -> tuple[Case, ...]:
    """What the seed's own code gives, in the sandbox, for arguments drawn from the seed's id: at most 16 cases.

    Empty where it cannot be called with plain data, does not compile by itself, gives nothing plain, the same for
    everything, or another result when it is run again.
    """
    signature = seed_signature(seed)
    return () if signature is None else _cases(seed.id, seed.language, seed.imports, seed.code, signature)


@functools.lru_cache(maxsize=4096)
def _cases(key: str, language: str, imports: str, code: str, signature: Signature) -> tuple[Case, ...]:
    draw = random.Random(key)
    profiles = _profiles(signature, draw)
    drawn = _drawn(profiles[0], _TRIED, draw)
    if len(profiles) > 1:
        # Without types, the first for which it gives nearly as many different results as for any is what it is for.
        probes = [_drawn(profile, _PROBED, draw) for profile in profiles]
        flat = [each for probe in probes for each in probe]
        waiting = iter(_results(language, imports, code, signature, flat) or [])
        found = [len({json.dumps(each) for each in itertools.islice(waiting, len(probe)) if each is not _RAISED})
                 for probe in probes]  # fmt: skip
        drawn = _drawn(profiles[next(at for at, each in enumerate(found) if each >= 0.6 * max(found))], _TRIED, draw)
    # Each is called twice in a row: a function that remembers, or draws lots, gives two results. What depends on the
    # order of a set differs from one Python process to the next.
    doubled = [each for each in drawn for _ in range(2)]
    runs = [_results(language, imports, code, signature, doubled) or []]
    if language == "python" and runs[0]:
        runs.append(_results(language, imports, code, signature, doubled) or [])
    cases = []
    for at, arguments in enumerate(drawn):
        results = [result for run in runs for result in run[2 * at : 2 * at + 2]]
        whole = len(results) == 2 * len(runs) and not any(each is _RAISED or each is None for each in results)
        if whole and all(same(results[0], each) for each in results):
            cases.append(Case(arguments, results[0]))
    fresh: dict[str, Case] = {}
    for case in cases:
        fresh.setdefault(json.dumps(case.returns), case)
    if len(cases) < _FEWEST or len(fresh) < 2:
        return ()
    # Those with results of their own first, so that the cases kept tell most.
    first = list(fresh.values())
    return tuple([*first, *(each for each in cases if each not in first)][:_KEPT])


def _profiles(signature: Signature, draw: random.Random) -> list[tuple[Plain, ...]]:
    """What may be handed to the parameters: their types, or for those without one several guesses, the same for all
    of them first."""
    kinds = [guesses(plain.text) if plain.kind == "any" else (plain,) for plain in signature.parameters]
    every = list(itertools.islice(itertools.product(*kinds), _LISTED))
    alike = [each for each in every if len(set(each)) == 1]
    others = [each for each in every if len(set(each)) > 1]
    return alike + draw.sample(others, min(len(others), _MIXED))


def _drawn(profile: Sequence[Plain], count: int, draw: random.Random) -> list[list[Any]]:
    arguments: list[list[Any]] = []
    for _ in range(count):
        drawn = [values(plain, draw) for plain in profile]
        if drawn not in arguments:
            arguments.append(drawn)
    return arguments


def check_cases(cases: Sequence[Case], language: str, code: str, name: str, imports: str = "") -> Outcome:
    """Whether the function `name` of `code` gives the result of every case. "none" where there are no cases; "failed"
    also for code that does not compile, or takes other parameters; "not run" where the toolchain is not here."""
    if not cases:
        return "none"
    signature = signature_of(code, name, language)
    if signature is None or any(len(each.arguments) != len(signature.parameters) for each in cases):
        return "failed"
    results = _results(language, imports, code, signature, [each.arguments for each in cases])
    if results is None:
        return "not run"
    held = len(results) == len(cases) and all(
        result is not _RAISED and same(result, case.returns) for result, case in zip(results, cases, strict=True)
    )
    return "passed" if held else "failed"


def _results(
    language: str, imports: str, code: str, signature: Signature, arguments: Sequence[list[Any]]
) -> list[Any] | None:
    """Results in order, as far as the program got; None where the toolchain is not here."""
    mark = f"{secrets.token_hex(8)} "
    program, owner = whole_program(language, imports, code)
    try:
        tests = calls(language, signature, arguments, mark, owner)
    except UnfitError:
        return []
    verdict = run_tests(language, program, tests, limits=_LIMITS)  # type: ignore[arg-type]
    if verdict.status == "not run":
        return None
    lines = [line[len(mark) :] for line in verdict.stdout.splitlines() if line.startswith(mark)]
    return [_parsed(line) for line in lines[: len(arguments)]]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return _RAISED
