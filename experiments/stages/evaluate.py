"""evaluate: teacher and student complete the same everyday prompts; how well, and how fast."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.completer import Completer, Completion, CompletionRequest
from demiurgic_jax.evaluation.everyday import everyday_prompts, everyday_requests, judge_everyday
from demiurgic_jax.sampling.engine import Engine
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.stage import Run, Stage
from experiments.teacher import ask_teacher, open_ledger, raw_request, teacher_url
from experiments.workdir import write_json


def _inputs(run: Run) -> Mapping[str, Any]:
    return {
        "evaluate": run.config.evaluate.to_dict(),
        "teacher": run.config.teacher.model,
        "prompts": everyday_prompts(),
    }


async def _all(completer: Completer, requests: Mapping[str, CompletionRequest]) -> list[Completion]:
    return list(await asyncio.gather(*map(completer.complete, requests.values())))


def _student(run: Run, requests: Mapping[str, CompletionRequest]) -> tuple[list[Completion], float]:
    """Completions, and tokens per second over all of them at once."""
    model = open_model(run.file("train", "checkpoints"))
    slots, context = run.config.teacher.slots, min(run.config.evaluate.max_context, model.config.max_context)
    with Engine(model.config, model.params, model.tokenizer, slots=slots, max_context=context) as engine:
        warm_up = next(iter(requests.values()))
        asyncio.run(engine.complete(warm_up))
        started = time.monotonic()
        completions = asyncio.run(_all(engine, requests))
        seconds = time.monotonic() - started
    return completions, sum(each.completion_tokens for each in completions) / seconds


def _teacher(
    run: Run, requests: Mapping[str, CompletionRequest], progress: StageProgress
) -> tuple[list[Completion | None], float | None]:
    """The same of the teacher, through the ledger; no speed when the answers were there already."""
    asked = [raw_request(name, request) for name, request in requests.items()]
    speed = None
    with open_ledger(run) as ledger:
        pending = ledger.pending(requests.values())
        if pending:
            with teacher_url(run, cache_folder(), progress) as url:
                # The first answer waits for the compiler, so it is not timed.
                ask_teacher(run, url, asked[:1], ledger, progress)
                _, speed = ask_teacher(run, url, asked, ledger, progress)
        answers = [ledger.answer(request) for request in requests.values()]
    return [answer.completion if answer else None for answer in answers], speed


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    requests = everyday_requests(max_tokens=run.config.evaluate.max_tokens)
    progress.doing(f"the student completes {len(requests)} everyday prompts")
    student, student_speed = _student(run, requests)
    progress.doing(f"the teacher completes {len(requests)} everyday prompts")
    teacher, teacher_speed = _teacher(run, requests, progress)
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "prompt": request.prompt,
            "student": asdict(judge_everyday(name, request, mine)),
            # A teacher that speaks only chat refuses raw prompts.
            "teacher": None if its is None else asdict(judge_everyday(name, request, its)),
        }
        for (name, request), mine, its in zip(requests.items(), student, teacher, strict=True)
    ]
    write_json(run.file("evaluate", "everyday.json"), rows)
    return {
        "everyday_prompts": len(rows),
        "student_begins_program": sum(row["student"]["begins"] for row in rows),
        "teacher_begins_program": sum(bool(row["teacher"]) and row["teacher"]["begins"] for row in rows),
        "measured": {"student_tokens_per_second": student_speed, "teacher_tokens_per_second": teacher_speed},
    }


EVALUATE = Stage(
    name="evaluate",
    needs=("train",),
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: (
        f"Python from {out['student_begins_program']} of {out['everyday_prompts']} everyday prompts "
        f"(teacher {out['teacher_begins_program']})"
    ),
)
