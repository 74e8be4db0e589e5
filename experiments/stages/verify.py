"""verify: answers become examples when they parse, and pass their tests where there are some."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from demiurgic_jax.curation.decontamination import Benchmarks, benchmarks_digest
from demiurgic_jax.distillation.example import Example, Rejection, write_examples, write_rejections
from demiurgic_jax.distillation.tasks.checks import Check
from demiurgic_jax.distillation.verification import Screen, verify_all
from demiurgic_jax.errors import UserError
from demiurgic_jax.sandbox.bubblewrap import bubblewrap_available
from demiurgic_jax.sandbox.toolchains import toolchains
from experiments.progress import StageProgress
from experiments.stages.seeds import min_hash
from experiments.stages.stage import Run, Stage
from experiments.stages.teach import planned_requests
from experiments.teacher import open_ledger
from experiments.workdir import file_hash


def _check(run: Run) -> None:
    if run.config.verify.tests not in get_args(Check):
        raise UserError(
            f"config.verify.tests={run.config.verify.tests!r} is unknown: choose {', '.join(get_args(Check))}"
        )


def _inputs(run: Run) -> Mapping[str, Any]:
    config = run.config.seeds
    # A machine that gains bubblewrap, or a language, verifies again, with the tests.
    missing = sorted(name for name, why in toolchains().items() if why) if _depth(run) == "behaviour" else []
    return {
        "sandbox": bubblewrap_available(),
        "missing_languages": missing,
        "verify": run.config.verify.to_dict(),
        "benchmarks": benchmarks_digest(tuple(config.benchmarks)),
        "near_duplicates": config.near_duplicates.to_dict(),
        "redact": list(config.redact),
    }


def _depth(run: Run) -> Check:
    depth: Check = run.config.verify.tests if bubblewrap_available() else "parse"
    return depth


def _screen(run: Run) -> Screen:
    config = run.config.seeds
    return Screen(
        benchmarks=Benchmarks.read(tuple(config.benchmarks)) if config.benchmarks else None,
        near_duplicates=min_hash(run) if config.near_duplicates.remove else None,
        redact=tuple(config.redact),
    )


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    depth = _depth(run)
    if not bubblewrap_available():
        progress.say("bubblewrap is missing here: answers are checked by parsing only, and nothing is run")
    if depth == "behaviour" and (missing := {name: why for name, why in toolchains().items() if why}):
        progress.say(f"answers in {', '.join(missing)} are not run: {'; '.join(map(str, missing.values()))}")
    requests, seeds = planned_requests(run)
    with open_ledger(run) as ledger:
        examples, rejections = verify_all(
            requests,
            ledger,
            seeds,
            check=depth,
            screen=_screen(run),
            progress=lambda done, total: progress(done, total, "answers"),
        )
    rejected = run.file("verify", "rejected.jsonl")
    write_rejections(rejected, rejections)
    if not examples:
        raise UserError(
            "not one answer of the teacher was fit to keep: see verify/rejected.jsonl, and try a larger teacher"
        )
    kept = run.file("verify", "examples.jsonl")
    write_examples(kept, examples)
    return {
        "sha256": file_hash(kept),
        "kept": _counted(each.task for each in examples),
        "rejected": _counted(each.reason for each in rejections),
        "tests": _counted(each.verdicts.get("tests", "none") for each in examples),
        "kept_of": _counted(f"{each.task}/{each.language}" for each in examples),
        "rejected_of": _counted(f"{each.task}/{each.language}: {each.reason}" for each in rejections),
        "sandbox": bubblewrap_available(),
        "measured": {"dollars_of": _dollars(examples, rejections)},
    }


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _dollars(examples: Iterable[Example], rejections: Iterable[Rejection]) -> dict[str, float]:
    """What the answers of each task cost, kept or not."""
    spent: dict[str, float] = {}
    for task, cost in [(each.task, each.cost) for each in examples] + [(each.task, each.cost) for each in rejections]:
        spent[task] = spent.get(task, 0.0) + cost
    return dict(sorted(spent.items()))


VERIFY = Stage(
    name="verify",
    needs=("seeds", "teach"),
    check=_check,
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: f"{sum(out['kept'].values()):,} examples kept, {sum(out['rejected'].values()):,} rejected",
)
