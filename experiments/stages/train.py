"""train: the student, from where config.init says, on the shards."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import jax

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.planning.online_teacher import require_teacher_fits
from demiurgic_jax.planning.prices import price_of
from demiurgic_jax.sharding.chips import chip_of
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.meter import progress_line
from demiurgic_jax.training.metrics import parameter_overview, read_metrics
from demiurgic_jax.training.online_teacher import TeacherModel
from demiurgic_jax.training.optimizer import make_optimizer
from demiurgic_jax.training.phases import PhasePlan, train_in_phases
from experiments.own_samples import api_judge, check_own_samples, own_sampler
from experiments.progress import StageProgress
from experiments.scoring import check_watching, watching
from experiments.stages.cache import cache_folder
from experiments.stages.shards import mixture, outside_fingerprints, shard_set
from experiments.stages.stage import Run, Stage
from experiments.stages.tokenizer import run_tokenizer
from experiments.student import initial_model, origin
from experiments.teacher import begins_as, has_local_teacher, local_teacher
from experiments.training_phases import phase_configs

# Fields of config.train that may change between the first step and the last: they say how a run is laid out, watched
# and kept, not what is learnt. Another mesh rounds otherwise.
OPERATIONAL = (
    *("mesh", "remat", "scan_layers", "checkpoint_every", "keep_checkpoints", "keep_every", "keep_best"),
    *("keep_best_metric", "eval_every", "hang_seconds", "spike", "metrics", "loader_workers"),
    *("gathered_once", "splash_block"),
)


def _check(run: Run) -> None:
    kind = begins_as(run)
    if run.config.init.ladder and kind != "random":
        raise UserError("config.init.ladder carries figures to another config.init.size: it needs init.kind=random")
    for phase in phase_configs(run.config):
        make_optimizer(phase.train.optimizer, phase.train.steps)
        outside_fingerprints(run, phase.train.mixture)
        if phase.train.teacher.online and not has_local_teacher(run):
            raise UserError("config.train.teacher.online needs the teacher's weights: set config.teacher.path")
        # What a teacher's API tells are no samples.
        sampled = has_local_teacher(run) and run.config.shards.soft_target_kind == "sampled"
        if sampled and run.config.shards.soft_targets and phase.train.soft_targets:
            phase.train.loss.require_linear()
    check_watching(run)
    check_own_samples(run)


def _inputs(run: Run) -> Mapping[str, Any]:
    phases = phase_configs(run.config)
    needs_teacher = begins_as(run) == "teacher" or any(phase.train.teacher.online for phase in phases)
    return {
        "train": _lasting(run.config.train.to_dict()),
        "phases": [_lasting(overrides) for overrides in run.config.phases],
        "outside_shards": [outside_fingerprints(run, phase.train.mixture) for phase in phases],
        # Without a teacher of its own, as runs have it that were begun before there could be one.
        "init": {name: value for name, value in run.config.init.to_dict().items() if name != "teacher" or value},
        "teacher": run.config.teacher.path if needs_teacher else None,
    }


def _lasting(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in OPERATIONAL}


def priced(config: TrainConfig) -> TrainConfig:
    """The config with the list price of this machine's chips, where it names no other and a list is known."""
    chip = chip_of(jax.devices()[0].device_kind)
    if config.metrics.dollars_per_hour or chip is None:
        return config
    per_hour = price_of(chip.name).dollars_per_chip_hour * jax.device_count()
    return replace(config, metrics=replace(config.metrics, dollars_per_hour=per_hour))


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    tokenizer = run_tokenizer(run)
    model, initial_params = initial_model(run, progress, tokenizer)
    phases = phase_configs(run.config, model)
    total = sum(phase.train.steps for phase in phases)
    folder = run.workdir.folder("train")
    progress.say(parameter_overview(abstract_parameters(model)))
    progress.doing(f"{model.num_parameters / 1e6:,.1f} M parameters on {jax.device_count()} device(s), compiling")

    def show(step: int, metrics: Mapping[str, float]) -> None:
        note = progress_line(metrics)
        if "phase" in metrics:
            note = f"{phases[int(metrics['phase']) - 1].name}: {note}"
        progress(step, total, "steps", note)

    def open_teacher() -> TeacherModel:
        teacher = local_teacher(run, cache_folder(), progress)
        return TeacherModel(teacher.config, teacher.params, teacher.tokenizer)

    for phase in phases:
        if phase.train.teacher.online:
            require_teacher_fits(phase.train, model, local_teacher(run, cache_folder(), progress).config)
    with ExitStack() as served:
        train_in_phases(
            [
                PhasePlan(
                    phase.name,
                    priced(phase.train),
                    mixture(run, phase.train.mixture),
                    own_sampler(run, phase.train, model, tokenizer),
                    api_judge(run, phase.train, tokenizer, served, progress)
                    if phase.train.on_policy.top_logprobs
                    else None,
                )
                for phase in phases
            ],
            model,
            tokenizer,
            {"heldout": shard_set(run, "heldout")},
            folder=folder,
            initial_params=initial_params,
            provenance={"experiment": run.name, "teacher": run.config.teacher.model, **origin(run, progress)},
            on_step=show,
            profile=run.profile,
            warn=progress.say,
            open_teacher=open_teacher,
            watch=watching(run, model, tokenizer, progress),
        )
    if jax.process_index() > 0:
        return {}
    rows = read_metrics(folder / "metrics.jsonl")
    speeds = sorted(row["tokens_per_second"] for row in rows if "tokens_per_second" in row)
    return {
        "steps": total,
        "parameters": model.num_parameters,
        "layers": model.num_layers,
        "tokens": sum(phase.train.steps * phase.train.batch_size * phase.train.context for phase in phases),
        "heldout_before": _heldout(rows[0]),
        "heldout_after": _heldout(rows[-1]),
        "measured": {"tokens_per_second": speeds[len(speeds) // 2]},
    }


def _heldout(row: Mapping[str, Any]) -> dict[str, float]:
    """Over all documents: cross_entropy, …; over a part of them: language/python/cross_entropy, …."""
    return {name.removeprefix("heldout/"): value for name, value in row.items() if name.startswith("heldout/")}


TRAIN = Stage(
    name="train",
    needs=("shards", "tokenizer"),
    check=_check,
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: (
        f"{out['steps']:,} steps, held-out cross-entropy {out['heldout_before']['cross_entropy']:.3f} → "
        f"{out['heldout_after']['cross_entropy']:.3f}"
    ),
    keep_replaced=True,
    on_mesh=True,
)
