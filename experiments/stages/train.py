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
from demiurgic_jax.training.loop import TrainConfig, train
from demiurgic_jax.training.metrics import read_metrics
from experiments.configuration import as_dataclass
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.shards import mixture, outside_fingerprints, shard_set
from experiments.stages.stage import Run, Stage
from experiments.stages.tokenizer import run_tokenizer
from experiments.teacher import local_teacher

INITS = ("teacher", "checkpoint", "random")


def _inputs(run: Run) -> Mapping[str, Any]:
    if run.config.init.kind not in INITS:
        raise UserError(f"config.init.kind={run.config.init.kind!r} is unknown: choose one of {', '.join(INITS)}")
    config = as_dataclass(TrainConfig, run.config.train, "train")
    return {
        "train": run.config.train.to_dict(),
        "outside_shards": outside_fingerprints(run, config.mixture),
        "init": run.config.init.to_dict(),
        "teacher": run.config.teacher.path if run.config.init.kind == "teacher" else None,
    }


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
    config = replace(named_config(init.size), vocab_size=math.ceil(vocab_size / 128) * 128)
    return config, lambda: init_params(Decoder(config), jax.random.key(run.config.train.seed))


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    config = as_dataclass(TrainConfig, run.config.train, "train")
    tokenizer = run_tokenizer(run)
    model, initial_params = initial_model(run, progress, tokenizer.vocab_size)
    folder = run.workdir.folder("train")
    progress.doing(f"{model.num_parameters / 1e6:,.1f} M parameters on {jax.device_count()} device(s), compiling")

    def show(step: int, metrics: Mapping[str, float]) -> None:
        progress(
            step, config.steps, "steps", f"loss {metrics['loss']:.3f}  {metrics['tokens_per_second']:,.0f} tokens/s"
        )

    train(
        config,
        model,
        tokenizer,
        mixture(run, config.mixture),
        shard_set(run, "heldout"),
        folder=folder,
        initial_params=initial_params,
        provenance={"experiment": run.name, "teacher": run.config.teacher.model, "init": run.config.init.kind},
        on_step=show,
    )
    if jax.process_index() > 0:
        return {}
    rows = read_metrics(folder / "metrics.jsonl")
    speeds = sorted(row["tokens_per_second"] for row in rows if "tokens_per_second" in row)
    return {
        "steps": config.steps,
        "parameters": model.num_parameters,
        "layers": model.num_layers,
        "tokens": config.steps * config.batch_size * config.context,
        "heldout_before": _heldout(rows[0]),
        "heldout_after": _heldout(rows[-1]),
        "measured": {"tokens_per_second": speeds[len(speeds) // 2]},
    }


def _heldout(row: Mapping[str, Any]) -> dict[str, float]:
    return {name.removeprefix("heldout/"): value for name, value in row.items() if name.startswith("heldout/")}


TRAIN = Stage(
    name="train",
    needs=("shards", "tokenizer"),
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: (
        f"{out['steps']:,} steps, held-out cross-entropy {out['heldout_before']['cross_entropy']:.3f} → "
        f"{out['heldout_after']['cross_entropy']:.3f}"
    ),
    keep_replaced=True,
    on_mesh=True,
)
