"""verify: answers become examples when they parse, and pass their tests where there are some."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from demiurgic_jax.distillation.example import write_examples, write_rejections
from demiurgic_jax.distillation.ledger import Verdict
from demiurgic_jax.distillation.verification import verify_all
from demiurgic_jax.errors import UserError
from demiurgic_jax.sandbox.bubblewrap import bubblewrap_available
from experiments.progress import StageProgress
from experiments.stages.stage import Run, Stage
from experiments.stages.teach import planned_requests
from experiments.teacher import open_ledger
from experiments.workdir import file_hash


def _inputs(run: Run) -> Mapping[str, Any]:
    # A machine that gains bubblewrap verifies again, with the tests.
    return {"sandbox": bubblewrap_available()}


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    sandbox = bubblewrap_available()
    if not sandbox:
        progress.say("bubblewrap is missing here: answers are checked by parsing only, and nothing is run")
    requests, seeds = planned_requests(run)
    with open_ledger(run) as ledger:
        examples, rejections = verify_all(
            requests, ledger, seeds, sandbox=sandbox, progress=lambda done, total: progress(done, total, "answers")
        )
        ledger.record_verdicts({each.id: Verdict(True) for each in examples})
        ledger.record_verdicts({each.id: Verdict(False, each.reason, each.detail) for each in rejections})
    if not examples:
        raise UserError(
            "not one answer of the teacher was fit to keep: see verify/rejected.jsonl, and try a larger teacher"
        )
    kept, rejected = run.file("verify", "examples.jsonl"), run.file("verify", "rejected.jsonl")
    write_examples(kept, examples)
    write_rejections(rejected, rejections)
    return {
        "sha256": file_hash(kept),
        "kept": dict(sorted(Counter(each.task for each in examples).items())),
        "rejected": dict(sorted(Counter(each.reason for each in rejections).items())),
        "tests": dict(sorted(Counter(each.verdicts.get("tests", "none") for each in examples).items())),
        "sandbox": sandbox,
    }


VERIFY = Stage(
    name="verify",
    needs=("seeds", "teach"),
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: f"{sum(out['kept'].values()):,} examples kept, {sum(out['rejected'].values()):,} rejected",
)
