"""teach: the teacher answers the five tasks about the seeds; every answer goes to the ledger as it comes."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from demiurgic_jax.curation.seeds import Seed, read_seeds
from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.requests import plan_requests
from demiurgic_jax.errors import UserError
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.stage import Run, Stage
from experiments.teacher import ask_teacher, teacher_url
from experiments.workdir import canonical_hash


def planned_requests(run: Run) -> tuple[list[TeacherRequest], list[Seed]]:
    """What the teacher is asked, a pure function of the seeds and the config; and those seeds."""
    config = run.config.teach
    every = read_seeds(run.file("seeds", "seeds.jsonl"))
    # The tasks know no other language yet.
    seeds = [seed for seed in every if seed.kind != "file" and seed.language == "python"]
    requests = plan_requests(
        seeds,
        tasks=config.tasks.to_dict(),
        seed=config.seed,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
    )
    if not requests:
        raise UserError("no seed suits any task of config.teach.tasks: raise the counts, or give code with functions")
    return requests, seeds


def _inputs(run: Run) -> Mapping[str, Any]:
    teacher = run.config.teacher
    return {"teach": run.config.teach.to_dict(), "teacher": {"model": teacher.model, "path": teacher.path}}


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    requests, _ = planned_requests(run)
    measured: dict[str, Any] = {}
    with Ledger(run.workdir.ledger, model=run.config.teacher.model) as ledger:
        pending = ledger.pending([each.request for each in requests])
        stopped = None
        if pending:
            with teacher_url(run, cache_folder(), progress) as url:
                progress.doing(f"asking {run.config.teacher.model} at {url}")
                asked, measured["tokens_per_second"] = ask_teacher(run, url, requests, ledger, progress)
            stopped = asked.stopped
            if asked.failed:
                raise UserError(
                    f"{asked.failed} of {asked.wanted} requests got no answer: run the same command again to ask "
                    "them again; every answer so far is kept"
                )
            if stopped:
                progress.say(stopped)
        answers = [ledger.answer(each.request) for each in requests]
        summary = ledger.summary()
    kept = [answer for answer in answers if answer is not None]
    return {
        "asked": dict(sorted(Counter(each.task for each in requests).items())),
        "answered": len(kept),
        "unanswered": len(answers) - len(kept),
        "answers_sha256": canonical_hash([answer and answer.completion.text for answer in answers]),
        "prompt_tokens": sum(answer.completion.prompt_tokens for answer in kept),
        "completion_tokens": sum(answer.completion.completion_tokens for answer in kept),
        "measured": {**measured, "dollars": summary.dollars, "attempts": summary.attempts, "stopped": stopped},
    }


TEACH = Stage(
    name="teach",
    needs=("seeds",),
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: (
        f"{out['answered']:,} answers, {out['completion_tokens']:,} tokens, ${out['measured']['dollars']:.2f} spent"
    ),
)
