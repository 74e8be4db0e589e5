"""train: the student, from where config.init says, on the shards."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.pruning import evenly_spaced, keep_layers
from demiurgic_jax.model.config import ModelConfig, named_config
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.planning.prices import price_of
from demiurgic_jax.sharding.chips import chip_of
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.meter import progress_line
from demiurgic_jax.training.metrics import parameter_overview, read_metrics
from demiurgic_jax.training.optimizer import make_optimizer
from demiurgic_jax.training.phases import PhasePlan, train_in_phases
from experiments.progress import StageProgress
from experiments.scoring import check_watching, watching
from experiments.stages.cache import cache_folder
from experiments.stages.shards import mixture, outside_fingerprints, shard_set
from experiments.stages.stage import Run, Stage
from experiments.stages.tokenizer import run_tokenizer
from experiments.teacher import local_teacher
from experiments.training_phases import phase_configs

INITS = ("teacher", "checkpoint", "random")
# Fields of config.train that may change between the first step and the last: they say how a run is laid out, watched
# and kept, not what is learnt. Another mesh rounds otherwise.
OPERATIONAL = (
    *("mesh", "remat", "scan_layers", "checkpoint_every", "keep_checkpoints", "keep_every", "keep_best"),
    *("keep_best_metric", "eval_every", "hang_seconds", "spike", "metrics", "loader_workers"),
    *("gathered_once", "splash_block"),
)


def _check(run: Run) -> None:
    if run.config.init.kind not in INITS:
        raise UserError(f"config.init.kind={run.config.init.kind!r} is unknown: choose one of {', '.join(INITS)}")
    if run.config.init.ladder and run.config.init.kind != "random":
        raise UserError("config.init.ladder carries figures to another config.init.size: it needs init.kind=random")
    for phase in phase_configs(run.config):
        make_optimizer(phase.train.optimizer, phase.train.steps)
        outside_fingerprints(run, phase.train.mixture)
    check_watching(run)


def _inputs(run: Run) -> Mapping[str, Any]:
    phases = phase_configs(run.config)
    return {
        "train": _lasting(run.config.train.to_dict()),
        "phases": [_lasting(overrides) for overrides in run.config.phases],
        "outside_shards": [outside_fingerprints(run, phase.train.mixture) for phase in phases],
        "init": run.config.init.to_dict(),
        "teacher": run.config.teacher.path if run.config.init.kind == "teacher" else None,
    }


def _lasting(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in OPERATIONAL}


def initial_model(run: Run, progress: StageProgress, vocab_size: int) -> tuple[ModelConfig, Any]:
    """The student before its first step, and a function that makes its parameters."""
    init = run.config.init
    if init.kind == "teacher":
        teacher = local_teacher(run, cache_folder(), progress)
        if not 1 <= init.layers <= teacher.config.num_layers:
            raise UserError(
                f"config.init.layers={init.layers}: the teacher has {teacher.config.num_layers} layers to keep from"
            )
        kept = evenly_spaced(teacher.config.num_layers, init.layers)
        config, params = keep_layers(teacher.params, teacher.config, kept)
        return config, lambda: params
    if init.kind == "checkpoint":
        opened = open_model(init.checkpoint)
        return opened.config, lambda: opened.params
    # Rounded up so that a vocabulary of any size divides over a mesh.
    named = named_config(init.size)
    config = replace(
        named,
        vocab_size=math.ceil(vocab_size / 128) * 128,
        max_context=max(named.max_context, run.config.train.context),
    )
    return config, lambda: init_params(Decoder(config), jax.random.key(run.config.train.seed))


def priced(config: TrainConfig) -> TrainConfig:
    """The config with the list price of this machine's chips, where it names no other and a list is known."""
    chip = chip_of(jax.devices()[0].device_kind)
    if config.metrics.dollars_per_hour or chip is None:
        return config
    per_hour = price_of(chip.name).dollars_per_chip_hour * jax.device_count()
    return replace(config, metrics=replace(config.metrics, dollars_per_hour=per_hour))


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    tokenizer = run_tokenizer(run)
    model, initial_params = initial_model(run, progress, tokenizer.vocab_size)
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

    train_in_phases(
        [PhasePlan(phase.name, priced(phase.train), mixture(run, phase.train.mixture)) for phase in phases],
        model,
        tokenizer,
        {"heldout": shard_set(run, "heldout")},
        folder=folder,
        initial_params=initial_params,
        provenance={"experiment": run.name, "teacher": run.config.teacher.model, "init": run.config.init.kind},
        on_step=show,
        profile=run.profile,
        warn=progress.say,
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
