"""The training loop: one straight road from the first step to the last.

Where the weights come from is said aloud here, once: the run's own newest checkpoint; else what
`initial_params` returns (a checkpoint, a pruned teacher, or random numbers: the caller's choice).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from demiurgic_jax.checkpoints.checkpoint import Card, CheckpointFolder
from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sharding.layout import layout_on
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.placement import put_array, put_batch, row_share
from demiurgic_jax.training.averages import find_average
from demiurgic_jax.training.heldout import evaluate_groups, heldout_groups
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.meter import Meter
from demiurgic_jax.training.metrics import MetricLog, MetricsConfig, parameter_overview, perplexity
from demiurgic_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from demiurgic_jax.training.profiling import ProfileWindow, traced
from demiurgic_jax.training.quantization import QUANTIZED_MATMULS, weight_product
from demiurgic_jax.training.state import TrainState, abstract_state, new_state, restored_state, to_save
from demiurgic_jax.training.step import make_eval_step, make_train_step, require_divisible

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclass(frozen=True)
class TrainConfig:
    """One run. `batch_size` counts rows of `context` tokens over all processes; `soft_targets` is the number
    K of teacher entries read per token, 0 to train on text alone. `quantized_matmuls` (int8 or fp8) is for the
    products with the layers' weights, forward and backward; held-out figures are of the weights as they are."""

    steps: int
    batch_size: int
    context: int
    grad_accum_steps: int = 1
    seed: int = 0
    soft_targets: int = 0
    compute_dtype: str = "float32"
    quantized_matmuls: str = "none"
    remat: str = "full"
    scan_layers: bool = True
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    eval_every: int = 1000
    mesh: MeshShape = field(default_factory=MeshShape)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def __post_init__(self) -> None:
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise UserError(
                f"train.compute_dtype={self.compute_dtype!r} is unknown: choose one of {', '.join(COMPUTE_DTYPES)}"
            )
        if self.quantized_matmuls not in QUANTIZED_MATMULS:
            raise UserError(
                f"train.quantized_matmuls={self.quantized_matmuls!r} is unknown: choose one of "
                f"{', '.join(QUANTIZED_MATMULS)}"
            )
        for name in ("steps", "batch_size", "context", "grad_accum_steps", "checkpoint_every", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name}={getattr(self, name)} must be at least 1")
        if self.loss.distill_weight > 0 and self.soft_targets == 0:
            raise UserError(
                f"train.loss.distill_weight={self.loss.distill_weight} needs soft targets: set train.soft_targets"
            )


class DivergedError(RuntimeError):
    """A loss or gradient stopped being a finite number."""


def train(
    config: TrainConfig,
    model: ModelConfig,
    tokenizer: Tokenizer,
    train_set: ShardSet,
    heldout_sets: Mapping[str, ShardSet],
    *,
    folder: Path,
    initial_params: Callable[[], Any],
    provenance: Mapping[str, Any],
    on_step: Callable[[int, Mapping[str, float]], None],
    profile: ProfileWindow | None = None,
) -> None:
    """Trains to `config.steps`, resuming from the newest checkpoint in `folder`/checkpoints.

    `folder`/metrics.jsonl gets a row a step, and rows with `heldout/…` (training/heldout.py) at step 0, every
    `eval_every` steps and at the end. `on_step(step, metrics)` is called after each. Steps of `profile` leave a trace
    in `folder`/profile. Raises DivergedError on NaN or infinity, UserError when shards, tokenizer and checkpoint do not
    belong together.

    Where the mesh reaches over several processes, all of them call this with equal arguments and one `folder`.
    """
    began = time.time()
    mesh = make_mesh(config.mesh)
    require_divisible(config.batch_size, config.context, config.grad_accum_steps, mesh)
    for shards in (train_set, *heldout_sets.values()):
        shards.require_tokenizer(tokenizer)
    if tokenizer.vocab_size > model.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} ids, model.vocab_size={model.vocab_size}: make it as large"
        )
    decoder = Decoder(
        model,
        compute_dtype=COMPUTE_DTYPES[config.compute_dtype],
        remat=config.remat,
        scan_layers=config.scan_layers,
        layout=layout_on(mesh),
        project=weight_product(config.quantized_matmuls),
    )
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = learning_rate_schedule(config.optimizer, config.steps)
    abstract = abstract_state(model, optimizer, mesh)
    train_step = make_train_step(decoder, optimizer, config.loss, mesh, abstract, config.grad_accum_steps)
    eval_step = make_eval_step(decoder.clone(project=jnp.einsum), config.loss, mesh, abstract)
    sources = {"row_length": config.context, "seed": config.seed, "soft_targets": config.soft_targets}
    loader = Loader(train_set, batch_size=config.batch_size, **sources)
    # A small held-out set may fill fewer rows than a training batch; one row per device is enough.
    eval_rows = mesh.shape["data"] * mesh.shape["fsdp"]
    heldout = heldout_groups(heldout_sets, **sources)
    card = Card(model, train_set.fingerprint, provenance)

    averaged = config.optimizer.evaluates_average
    average = jax.jit(find_average, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract.params))

    def evaluated(state: TrainState) -> Any:
        return average(state.params, state.opt_state) if averaged else state.params

    def evaluate(state: TrainState) -> dict[str, float]:
        return evaluate_groups(eval_step, evaluated(state), heldout, eval_rows, mesh)

    with CheckpointFolder(folder / "checkpoints", keep=config.keep_checkpoints) as checkpoints:
        latest = checkpoints.latest_step()
        if latest is None or latest < config.steps:
            checkpoints.require_room([abstract.params, to_save(abstract, averaged)])
        if profile is not None:
            profile.require_ahead(latest or 0, config.steps)
        if latest is not None:
            _require_same_data(checkpoints.card(latest), card, folder)
            params, rest = checkpoints.restore(latest, abstract.params, to_save(abstract, averaged))
            state = restored_state(put_array(np.int32(latest), abstract.step.sharding), params, rest)
        else:
            state = new_state(initial_params(), abstract, optimizer)
        log = MetricLog(folder, latest, began=began, tensorboard=config.metrics.tensorboard)
        log.describe(parameters=parameter_overview(abstract.params))
        if latest is None:
            log.write(0, evaluate(state))
        meter = Meter(
            config.metrics,
            model,
            log.history,
            rows=config.batch_size,
            row_length=config.context,
            steps=config.steps,
            devices=mesh.size,
        )
        meter.resume()
        steps = meter.waited(_steps(loader, mesh, latest or 0, config.steps))
        for step, host_batch in traced(steps, profile, folder / "profile"):
            batch = put_batch(host_batch, mesh)
            state, device_metrics = train_step(state, batch)
            metrics = {name: float(value) for name, value in jax.device_get(device_metrics).items()}
            done = step + 1
            _require_finite(done, metrics)
            metrics |= meter.measure(done)
            metrics["perplexity"] = perplexity(metrics["cross_entropy"])
            metrics["learning_rate"] = float(schedule(step))
            if done % config.eval_every == 0 or done == config.steps:
                metrics |= evaluate(state)
            log.write(done, metrics)
            if done % config.checkpoint_every == 0 or done == config.steps:
                checkpoints.save(done, evaluated(state), tokenizer, card, to_save(state, averaged))
            on_step(done, metrics)
            meter.resume()
        checkpoints.wait()
        log.close()


def _steps(loader: Loader, mesh: Mesh, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
    index, count = row_share(mesh)
    with loader.batches(start, process_index=index, process_count=count) as batches:
        for step, batch in batches:
            if step >= stop:
                return
            yield step, batch


def _require_finite(step: int, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"{name} is {value} at step {step}: lower train.optimizer.learning_rate, or look at that step's rows; "
                "the last checkpoint is whole"
            )


def _require_same_data(stored: Card, card: Card, folder: Path) -> None:
    if stored.data_fingerprint != card.data_fingerprint:
        raise UserError(
            f"the checkpoint in {folder} was trained on other shards (fingerprint {stored.data_fingerprint[:12]}, "
            f"now {card.data_fingerprint[:12]}): remove {folder}, or use another --workdir"
        )
