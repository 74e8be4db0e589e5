"""The training loop: one straight road from the first step to the last.

Where the weights come from is said aloud here, once: the run's own newest checkpoint; else what
`initial_params` returns (a checkpoint, a pruned teacher, or random numbers: the caller's choice).
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder
from demiurgic_jax.checkpoints.reading import DamagedCheckpointError
from demiurgic_jax.checkpoints.retention import Retention
from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import PreemptedError, UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sharding.layout import layout_on
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.placement import put_batch, row_share
from demiurgic_jax.training.losses import LossConfig, LossSums
from demiurgic_jax.training.metrics import MetricLog
from demiurgic_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from demiurgic_jax.training.preemption import Preemption
from demiurgic_jax.training.resuming import Phase, standing
from demiurgic_jax.training.spikes import DivergedError, SkippedData, SpikeConfig, require_healthy, skip_or_stop
from demiurgic_jax.training.state import abstract_state
from demiurgic_jax.training.step import make_eval_step, make_train_step, means, require_divisible
from demiurgic_jax.training.watchdog import Watchdog

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclass(frozen=True)
class TrainConfig:
    """One run, or one phase of it. `batch_size` counts rows of `context` tokens over all processes; `soft_targets` is
    the number K of teacher entries read per token, 0 to train on text alone.

    Of the checkpoints the `keep_checkpoints` newest are kept, those of every `keep_every`-th step, and the `keep_best`
    with the lowest `keep_best_metric`. With `hang_seconds` > 0 a run without progress for as long ends itself.
    """

    steps: int
    batch_size: int
    context: int
    grad_accum_steps: int = 1
    seed: int = 0
    soft_targets: int = 0
    compute_dtype: str = "float32"
    remat: str = "full"
    scan_layers: bool = True
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    keep_every: int = 0
    keep_best: int = 0
    keep_best_metric: str = "heldout/cross_entropy"
    eval_every: int = 1000
    hang_seconds: float = 0.0
    mesh: MeshShape = field(default_factory=MeshShape)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    spike: SpikeConfig = field(default_factory=SpikeConfig)

    def __post_init__(self) -> None:
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise UserError(
                f"train.compute_dtype={self.compute_dtype!r} is unknown: choose one of {', '.join(COMPUTE_DTYPES)}"
            )
        for name in ("steps", "batch_size", "context", "grad_accum_steps", "checkpoint_every", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name}={getattr(self, name)} must be at least 1")
        if self.keep_checkpoints < 1:
            raise UserError(f"train.keep_checkpoints={self.keep_checkpoints} must be at least 1, to resume from")
        for name in ("keep_every", "keep_best", "hang_seconds"):
            if getattr(self, name) < 0:
                raise UserError(f"train.{name}={getattr(self, name)} is below 0; 0 switches it off")
        if self.keep_best and self.checkpoint_every % self.eval_every:
            raise UserError(
                f"train.keep_best={self.keep_best} needs held-out figures of every checkpoint: make "
                f"train.checkpoint_every={self.checkpoint_every} a multiple of train.eval_every={self.eval_every}"
            )
        if self.loss.distill_weight > 0 and self.soft_targets == 0:
            raise UserError(
                f"train.loss.distill_weight={self.loss.distill_weight} needs soft targets: set train.soft_targets"
            )


def say_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def train(
    config: TrainConfig,
    model: ModelConfig,
    tokenizer: Tokenizer,
    train_set: ShardSet,
    heldout_set: ShardSet,
    *,
    folder: Path,
    initial_params: Callable[[], Any],
    provenance: Mapping[str, Any],
    on_step: Callable[[int, Mapping[str, float]], None],
    warn: Callable[[str], None] = say_on_stderr,
    phase: Phase = Phase(),  # noqa: B008 (it is frozen)
) -> None:
    """Trains for `config.steps`, resuming from the newest whole checkpoint in `folder`/checkpoints.

    `folder`/metrics.jsonl gets a row a step, and rows with `heldout/…` at step 0, every `eval_every`
    steps and at the end. `on_step(step, metrics)` is called after each. `warn` hears of damaged checkpoints and skipped
    data. Raises DivergedError on NaN, infinity or a spike (training/spikes.py), PreemptedError after SIGTERM once the
    current step is saved, UserError when shards, tokenizer and checkpoint do not belong together.

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
    loader = Loader(train_set, batch_size=config.batch_size, **sources)
    # A small held-out set may fill fewer rows than a training batch; one row per device is enough.
    eval_rows = mesh.shape["data"] * mesh.shape["fsdp"]
    heldout = Loader(heldout_set, batch_size=1, **sources)
    card = Card(model, train_set.fingerprint, provenance, phase.name, phase.start)
    stop = phase.start + config.steps
    # The host reads a step's metrics while the device makes the next one, so that the device never waits. On CPUs,
    # programs that overlap on several devices can wait for each other for ever.
    reads_late = mesh.size == 1 or jax.default_backend() != "cpu"
    watchdog, preemption = Watchdog(config.hang_seconds), Preemption()
    damaged: list[int] = []
    started = time.perf_counter()

    def report_damage(step: int, damage: DamagedCheckpointError) -> None:
        damaged.append(step)
        warn(f"{damage}. It is moved aside, and the one before takes its place")

    def watched_eval_step(params: Any, batch: Batch) -> LossSums:
        sums = eval_step(params, batch)
        watchdog.beat()
        return sums

    def evaluate(params: Any) -> dict[str, float]:
        watchdog.pause()  # the first time it compiles
        return evaluate_rows(watched_eval_step, params, heldout, eval_rows, mesh)

    def read(done: int, device_metrics: Mapping[str, jax.Array]) -> dict[str, float]:
        """Waits for the metrics of step `done` and checks them."""
        nonlocal started
        metrics = {name: float(value) for name, value in jax.device_get(device_metrics).items()}
        require_healthy(done, metrics, recent_losses, config.spike)
        recent_losses.append(metrics["loss"])
        watchdog.beat()
        # On the host: an accelerator would answer only after the step that it is busy with.
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            metrics["learning_rate"] = float(schedule(done - 1 - phase.start))
        now = time.perf_counter()
        metrics["tokens_per_second"] = config.batch_size * config.context / (now - started)
        started = now
        return metrics | ({"phase": phase.number} if phase.number else {})

    with CheckpointFolder(folder / "checkpoints", retention_of(config, phase)) as checkpoints, watchdog, preemption:
        if (checkpoints.latest_step() or 0) >= stop:
            return
        checkpoints.require_room(abstract)
        skipped = SkippedData(folder, phase.name)
        while True:  # once, and once more after every spike whose data is skipped
            state, stored = standing(checkpoints, phase, card, abstract, optimizer, initial_params, report_damage)
            start = int(jax.device_get(state.step))
            skipped.include(stored.skipped)
            recent_losses = deque(stored.recent_losses, config.spike.window)
            log = MetricLog(folder, checkpoints.latest_step())
            if start == 0:
                log.write(0, evaluate(state.params))
            while damaged:
                log.write(start, {"damaged_checkpoint": damaged.pop(0)})
            unread = None
            watchdog.pause()  # until the first step is compiled and done
            started = time.perf_counter()
            try:
                for step, host_batch in _steps(loader, mesh, skipped, phase.start, start, stop):
                    batch = put_batch(host_batch, mesh)
                    with jax.transfer_guard("disallow"):
                        state, device_metrics = train_step(state, batch)
                    if unread is not None:
                        metrics = read(*unread)
                        log.write(unread[0], metrics)
                        on_step(unread[0], metrics)
                    done = step + 1
                    unread = done, device_metrics
                    preempted = preemption.last(done)
                    evaluates = done % config.eval_every == 0 or done == stop
                    saves = done % config.checkpoint_every == 0 or done == stop or preempted
                    if reads_late and not (evaluates or saves):
                        continue
                    metrics, unread = read(*unread), None
                    figures = evaluate(state.params) if evaluates else {}
                    log.write(done, metrics | figures)
                    if saves:
                        now = replace(card, skipped=skipped.ranges, recent_losses=tuple(recent_losses), heldout=figures)
                        checkpoints.save(done, state.params, tokenizer, now, state.opt_state)
                    if preempted:
                        checkpoints.wait()
                        raise PreemptedError(
                            f"stopped by SIGTERM; step {done} is saved, the same command goes on from it"
                        )
                    on_step(done, metrics | figures)
                    started = time.perf_counter()
            except DivergedError as spike:
                checkpoints.wait()
                skip_or_stop(spike, config.spike, skipped, checkpoints.latest_step(), phase, loader, folder, warn)
                continue
            finally:
                log.close()
            checkpoints.wait()
            return


def retention_of(config: TrainConfig, phase: Phase) -> Retention:
    """Which checkpoints a phase keeps."""
    return Retention(
        config.keep_checkpoints, config.keep_every, config.keep_best, config.keep_best_metric, always=phase.ends
    )


def _steps(
    loader: Loader, mesh: Mesh, skipped: SkippedData, phase_start: int, start: int, stop: int
) -> Iterator[tuple[int, Batch]]:
    """The steps of the run from `start` to `stop` - 1, each with the data that it is made with."""
    index, count = row_share(mesh)
    step = start
    while step < stop:
        first = skipped.data_step(step - phase_start)
        with loader.batches(first, process_index=index, process_count=count) as batches:
            for data_step, batch in batches:
                if step == stop or data_step != skipped.data_step(step - phase_start):
                    break
                yield step, batch
                step += 1


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
    if total is None:
        raise UserError(f"held-out set {loader.shard_set.folder} is empty: raise the held-out fraction")
    values = {name: float(value) for name, value in jax.device_get(means(total)).items()}
    return {f"heldout/{name}": values[name] for name in ("cross_entropy", "kl", "accuracy", "loss_tokens")}
