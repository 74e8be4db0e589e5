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
from demiurgic_jax.data.fim import FimConfig
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.mixture import Mixture, MixtureConfig
from demiurgic_jax.data.packing import require_packing
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sharding.layout import layout_on
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.placement import put_array, put_batch, row_share
from demiurgic_jax.training.losses import LossConfig, LossSums
from demiurgic_jax.training.metrics import MetricLog
from demiurgic_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from demiurgic_jax.training.state import TrainState, abstract_state, new_state
from demiurgic_jax.training.step import make_eval_step, make_train_step, means, require_divisible

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclass(frozen=True)
class TrainConfig:
    """One run. `batch_size` counts rows of `context` tokens over all processes; `soft_targets` is the number
    K of teacher entries read per token, 0 to train on text alone. `loader_workers` processes read ahead, 0: threads.
    The caller opens the sets of `mixture`."""

    steps: int
    batch_size: int
    context: int
    grad_accum_steps: int = 1
    seed: int = 0
    soft_targets: int = 0
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    packing: str = "best_fit"
    fim: FimConfig = field(default_factory=FimConfig)
    loader_workers: int = 0
    compute_dtype: str = "float32"
    remat: str = "full"
    scan_layers: bool = True
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    eval_every: int = 1000
    mesh: MeshShape = field(default_factory=MeshShape)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise UserError(
                f"train.compute_dtype={self.compute_dtype!r} is unknown: choose one of {', '.join(COMPUTE_DTYPES)}"
            )
        for name in ("steps", "batch_size", "context", "grad_accum_steps", "checkpoint_every", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name}={getattr(self, name)} must be at least 1")
        require_packing(self.packing)
        if self.loader_workers < 0:
            raise UserError(f"train.loader_workers={self.loader_workers} must be at least 0")
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
    train_set: ShardSet | Mixture,
    heldout_set: ShardSet,
    *,
    folder: Path,
    initial_params: Callable[[], Any],
    provenance: Mapping[str, Any],
    on_step: Callable[[int, Mapping[str, float]], None],
) -> None:
    """Trains to `config.steps`, resuming from the newest checkpoint in `folder`/checkpoints.

    `folder`/metrics.jsonl gets a row a step, and rows with `heldout/…` at step 0, every `eval_every`
    steps and at the end. `on_step(step, metrics)` is called after each. Raises DivergedError on NaN or
    infinity, UserError when shards, tokenizer and checkpoint do not belong together.

    Where the mesh reaches over several processes, all of them call this with equal arguments and one `folder`.
    """
    mesh = make_mesh(config.mesh)
    require_divisible(config.batch_size, config.context, config.grad_accum_steps, mesh)
    for shards in (train_set, heldout_set):
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
    )
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = learning_rate_schedule(config.optimizer, config.steps)
    abstract = abstract_state(model, optimizer, mesh)
    train_step = make_train_step(decoder, optimizer, config.loss, mesh, abstract, config.grad_accum_steps)
    eval_step = make_eval_step(decoder, config.loss, mesh, abstract)
    sources = {"row_length": config.context, "seed": config.seed, "soft_targets": config.soft_targets}
    loader = Loader(
        train_set,
        batch_size=config.batch_size,
        packing=config.packing,
        fim=config.fim,
        tokenizer=tokenizer,
        **sources,
    )
    # A small held-out set may fill fewer rows than a training batch; one row per device is enough.
    eval_rows = mesh.shape["data"] * mesh.shape["fsdp"]
    heldout = Loader(heldout_set, batch_size=1, **sources)
    card = Card(model, train_set.fingerprint, provenance)

    def evaluate(params: Any) -> dict[str, float]:
        return evaluate_rows(eval_step, params, heldout, eval_rows, mesh)

    with CheckpointFolder(folder / "checkpoints", keep=config.keep_checkpoints) as checkpoints:
        latest = checkpoints.latest_step()
        if latest is None or latest < config.steps:
            checkpoints.require_room(abstract)
        if latest is not None:
            _require_same_data(checkpoints.card(latest), card, folder)
            params, opt_state = checkpoints.restore(latest, abstract.params, abstract.opt_state)
            state = TrainState(put_array(np.int32(latest), abstract.step.sharding), params, opt_state)
        else:
            state = new_state(initial_params(), abstract, optimizer)
        log = MetricLog(folder, latest)
        if latest is None:
            log.write(0, evaluate(state.params))
        started = time.perf_counter()
        for step, host_batch in _steps(loader, mesh, latest or 0, config):
            batch = put_batch(host_batch, mesh)
            state, device_metrics = train_step(state, batch)
            metrics = {name: float(value) for name, value in jax.device_get(device_metrics).items()}
            done, now = step + 1, time.perf_counter()
            _require_finite(done, metrics)
            metrics["learning_rate"] = float(schedule(step))
            metrics["tokens_per_second"] = config.batch_size * config.context / (now - started)
            if done % config.eval_every == 0 or done == config.steps:
                metrics |= evaluate(state.params)
            log.write(done, metrics)
            if done % config.checkpoint_every == 0 or done == config.steps:
                checkpoints.save(done, state.params, tokenizer, card, state.opt_state)
            on_step(done, metrics)
            started = time.perf_counter()
        checkpoints.wait()
        log.close()


def _steps(loader: Loader, mesh: Mesh, start: int, config: TrainConfig) -> Iterator[tuple[int, Batch]]:
    index, count = row_share(mesh)
    workers = config.loader_workers
    with loader.batches(start, process_index=index, process_count=count, workers=workers) as batches:
        for step, batch in batches:
            if step >= config.steps:
                return
            yield step, batch


def evaluate_rows(
    eval_step: Callable[[Any, Batch], LossSums], params: Any, loader: Loader, batch_size: int, mesh: Mesh
) -> dict[str, float]:
    """Means over every row of a held-out set, each counted once, named `heldout/…`."""
    total: LossSums | None = None
    index, count = row_share(mesh)
    for host_batch in loader.all_rows(batch_size, process_index=index, process_count=count):
        # Fetched one by one: on CPUs, programs that overlap on several processes can wait for each other for ever.
        sums = jax.device_get(eval_step(params, put_batch(host_batch, mesh)))
        total = sums if total is None else jax.tree.map(np.add, total, sums)
    assert total is not None, "a loader has at least one row"
    values = {name: float(value) for name, value in jax.device_get(means(total)).items()}
    return {f"heldout/{name}": values[name] for name in ("cross_entropy", "kl", "accuracy", "loss_tokens")}


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
