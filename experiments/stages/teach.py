"""teach: the teacher answers the tasks' questions about the seeds; every answer goes to the ledger as it comes.

A task may ask again about an answer: so the requests go out in rounds, until no conversation has anything left to ask.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from demiurgic_jax.curation.languages import LANGUAGES, language_named
from demiurgic_jax.curation.seeds import Seed, read_seeds
from demiurgic_jax.distillation.conversations import conversations
from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.merging import ended_keys
from demiurgic_jax.distillation.price_table import list_price
from demiurgic_jax.distillation.request import TeacherRequest, in_shard
from demiurgic_jax.distillation.requests import plan_requests
from demiurgic_jax.distillation.spending import Forecast, forecast, spending
from demiurgic_jax.distillation.tasks.prompts import Prompts
from demiurgic_jax.distillation.tasks.registry import task_named
from demiurgic_jax.distillation.tasks.task import Manner
from demiurgic_jax.errors import UserError
from experiments.own_samples import ON_POLICY, expected_questions
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.stage import Run, Stage
from experiments.teacher import ask_teacher, budget_of, described_teachers, open_ledger, teacher_url
from experiments.workdir import canonical_hash, shard_ledgers


def planned_requests(run: Run) -> tuple[list[TeacherRequest], list[Seed]]:
    """What the teacher is asked, a pure function of the seeds and the config; and those seeds."""
    config = run.config.teach
    seeds = [seed for seed in read_seeds(run.file("seeds", "seeds.jsonl")) if seed.kind != "file"]
    requests = plan_requests(
        seeds,
        tasks=config.tasks.to_dict(),
        seed=config.seed,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        logprobs=config.logprobs or None,
        manner=_manner(run),
    )
    if not requests:
        raise UserError("no seed suits any task of config.teach.tasks: raise the counts, or give code with functions")
    return requests, seeds


def _manner(run: Run) -> Manner:
    config = run.config.teach
    if config.prompts not in get_args(Prompts):
        raise UserError(f"config.teach.prompts={config.prompts!r} is unknown: choose plain or styled")
    return Manner(config.prompts, tuple(language_named(name).name for name in config.translate_to or LANGUAGES))


def _next_round(requests: Sequence[TeacherRequest], seeds: Sequence[Seed], ledger: Ledger) -> list[TeacherRequest]:
    """What was asked and what is to be asked now: the first questions, then what follows from their answers. Empty
    once nothing is left to ask."""
    every = [request for talk in conversations(requests, seeds, ledger.answer) for request in talk.requests]
    return every if ledger.pending([each.request for each in every]) else []


def _check(run: Run) -> None:
    _manner(run)
    for name in run.config.teach.tasks:
        task_named(name)


def _inputs(run: Run) -> Mapping[str, Any]:
    teacher = run.config.teacher
    asked: dict[str, Any] = {"model": teacher.model, "path": teacher.path}
    # Where these ended the asking, more of them lets it go on.
    asked["bounds"] = [teacher.budget_dollars, teacher.budget_tokens, teacher.total_seconds]
    if teacher.others:
        asked["weights"] = [(each.name, each.model, each.weight) for each in described_teachers(run.config).teachers]
    return {"teach": run.config.teach.to_dict(), "teacher": asked}


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    requests, seeds = planned_requests(run)
    measured: dict[str, Any] = {}
    stopped = None
    with open_ledger(run) as ledger, contextlib.ExitStack() as server:
        url = ""
        while stopped is None and (wanted := _next_round(requests, seeds, ledger)):
            url = url or server.enter_context(teacher_url(run, cache_folder(), progress))
            progress.doing(f"asking {run.config.teacher.model} at {url}")
            # The first round says how fast the teacher is; the others are small.
            asked, speed = ask_teacher(run, url, wanted, ledger, progress)
            measured.setdefault("tokens_per_second", speed)
            stopped = asked.stopped
            if asked.batched:
                raise UserError(stopped or "requests are in batches under way: run the same command again")
            if asked.failed:
                raise UserError(
                    f"{asked.failed} of {asked.wanted} requests got no answer: run the same command again to ask "
                    "them again; every answer so far is kept"
                )
            if stopped:
                progress.say(stopped)
        talks = conversations(requests, seeds, ledger.answer)
        summary = ledger.summary()
    answers = [answer for talk in talks for answer in (*talk.answers, *([None] if talk.open else []))]
    kept = [answer for answer in answers if answer is not None]
    return {
        "asked": dict(sorted(Counter(each.task for each in requests).items())),
        "follow_ups": sum(max(0, len(talk.turns) - 1) for talk in talks),
        "answered": len(kept),
        "unanswered": len(answers) - len(kept),
        "answers_sha256": canonical_hash([answer and answer.completion.text for answer in answers]),
        "prompt_tokens": sum(answer.completion.prompt_tokens for answer in kept),
        "completion_tokens": sum(answer.completion.completion_tokens for answer in kept),
        "measured": {**measured, "dollars": summary.dollars, "attempts": summary.attempts, "stopped": stopped},
    }


def ask_shard(run: Run, shard: str, progress: StageProgress) -> None:
    """Asks part I of N (`shard` is "I/N", I from 0) into a ledger of its own, within an N-th of the budget. What any
    other ledger of the run has an answer to is not asked."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None or not int(match[1]) < int(match[2]):
        raise UserError(f"--shard={shard} is no part of a whole: give I/N with I from 0 to N-1, e.g. 0/4")
    part, parts = int(match[1]), int(match[2])
    requests, seeds = _cut_requests(run)
    mine = run.workdir.shard_ledger(part, parts)
    others = [path for path in (run.workdir.ledger, *shard_ledgers(run.workdir.path)) if path.exists() and path != mine]
    ended = set().union(*map(ended_keys, others))
    with open_ledger(run, mine) as ledger:
        keys = {ledger.key(each.request): each for each in requests}
        wanted = [each for key, each in keys.items() if in_shard(key, part, parts) and key not in ended]
        progress.say(f"{len(wanted):,} of {len(keys):,} requests are this shard's and have no answer elsewhere")
        with contextlib.ExitStack() as server:
            url, stopped = "", None
            # What follows from a shard's answers is that shard's, whatever its key.
            while stopped is None and (asking := _next_round(wanted, seeds, ledger)):
                url = url or server.enter_context(teacher_url(run, cache_folder(), progress))
                asked, _ = ask_teacher(run, url, asking, ledger, progress, budget_of(run.config, parts))
                failed = asked.failed + asked.refused
                progress.say(f"{asked.answered:,} answered, {failed:,} failed, ${asked.dollars:,.4f} spent")
                if stopped := asked.stopped:
                    progress.say(stopped)
                if asked.failed:
                    raise UserError(
                        f"{asked.failed} requests got no answer: run the same command again to ask them again"
                    )


def price_run(run: Run, progress: StageProgress) -> None:
    """Says what the requests of the config would cost, those of the train stage included, without sending one. Where
    answers are stored already, theirs is the length that is expected of the rest."""
    requests, _ = _cut_requests(run)
    panel = described_teachers(run.config)
    by_model: dict[str, list[TeacherRequest]] = {}
    distinct = {panel.key(each.request): each for each in requests}
    styled = run.config.teach.prompts == "styled"
    for each in distinct.values():
        # What follows from an answer is not known yet: it is taken to be as long as the first question.
        turns = task_named(each.task).most_turns if styled else 1
        by_model.setdefault(panel.teacher_of(each.request).model, []).extend([each] * turns)
    for each in expected_questions(run):
        by_model.setdefault(panel.teacher_of(each.request).model, []).append(each)
    prices = {teacher.model: teacher.price for teacher in panel.teachers if teacher.price is not None}
    if missing := sorted(set(by_model) - set(prices)):
        list_price(missing[0])
    lengths = {}
    if run.workdir.ledger.exists():
        by_task = spending(run.workdir.ledger)["by_task"]
        lengths = {task: row["completion_tokens"] / row["settled"] for task, row in by_task.items() if row["settled"]}
    lines = forecast(by_model, prices, lengths)
    wanted = sum(run.config.teach.tasks.values())
    scale = wanted / len(distinct)
    for line in lines:
        progress.say(
            f"{line.model}  {line.task:<10} {line.requests:>7,} requests  {line.prompt_tokens:>12,} tokens in  "
            f"{line.completion_tokens:>12,} out  ${line.likely:,.2f} likely  ${line.most:,.2f} at most"
        )
    likely, most = _together(lines, 1.0)
    progress.say(f"together ${likely:,.2f} likely, ${most:,.2f} at most; nothing was sent")
    if scale > 1.01:
        likely, most = _together(lines, scale)
        progress.say(
            f"these seeds give {len(distinct):,} of {wanted:,} requests; all of them, alike, "
            f"${likely:,.2f} likely, ${most:,.2f} at most"
        )
    budget = run.config.teacher.budget_dollars
    if budget and likely > budget:
        progress.say(f"config.teacher.budget_dollars={budget:g} will stop it before that")


def _together(lines: Sequence[Forecast], scale: float) -> tuple[float, float]:
    """Dollars likely and at most, when seeds give `scale` times as many requests. How often the train stage asks does
    not depend on them."""
    factors = [1.0 if line.task == ON_POLICY else scale for line in lines]
    return (
        sum(line.likely * factor for line, factor in zip(lines, factors, strict=True)),
        sum(line.most * factor for line, factor in zip(lines, factors, strict=True)),
    )


def _cut_requests(run: Run) -> tuple[list[TeacherRequest], list[Seed]]:
    if run.workdir.manifest("seeds") is None:
        raise UserError("there are no seeds yet: run the same command with --stages=seeds instead of this first")
    return planned_requests(run)


TEACH = Stage(
    name="teach",
    needs=("seeds",),
    check=_check,
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: (
        f"{out['answered']:,} answers, {out['completion_tokens']:,} tokens, ${out['measured']['dollars']:.2f} spent"
    ),
)
