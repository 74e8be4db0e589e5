"""How much of the whole one task or language may be: what is left out is what proved least."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.distillation.example import Example
from demiurgic_jax.distillation.tasks.registry import TASKS
from demiurgic_jax.errors import UserError


def limits_of(at_most: Mapping[str, float], total: int) -> dict[str, int]:
    """The most examples under each name, of `total`. A limit up to 1.0 that is no whole number, or 1.0 itself, is a
    share. Raises UserError for a name that is no task, no language and no "task/language", and for a negative limit."""
    for name, limit in at_most.items():
        task, _, language = name.partition("/") if "/" in name else (name, "", "")
        known = (task in TASKS and language in LANGUAGES) if language else (task in TASKS or task in LANGUAGES)
        if not known:
            raise UserError(
                f"config.shards.at_most has {name!r}: name a task ({', '.join(TASKS)}), a language "
                f"({', '.join(LANGUAGES)}) or both, e.g. fix/go"
            )
        if not isinstance(limit, int | float) or isinstance(limit, bool) or limit < 0:
            raise UserError(f"config.shards.at_most[{name!r}] is {limit!r}: give a number of examples, or a share")
    return {
        name: int(limit * total) if isinstance(limit, float) and limit <= 1.0 else int(limit)
        for name, limit in at_most.items()
    }


def mixed(examples: Sequence[Example], at_most: Mapping[str, float]) -> list[Example]:
    """`examples` within the limits, in their order: those that passed tests are taken first, then by a hash."""
    limits = limits_of(at_most, len(examples))
    counts: Counter[str] = Counter()
    taken: set[str] = set()
    for each in sorted(examples, key=_rank):
        names = (each.task, each.language, f"{each.task}/{each.language}")
        if all(counts[name] < limits.get(name, len(examples)) for name in names):
            counts.update(names)
            taken.add(each.id)
    return [each for each in examples if each.id in taken]


def _rank(example: Example) -> tuple[bool, str]:
    tested = example.verdicts.get("tests") == "passed"
    return not tested, hashlib.sha256(example.id.encode()).hexdigest()
