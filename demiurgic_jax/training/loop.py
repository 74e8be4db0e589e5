"""The training loop: one straight road from the first step to the last.

Where the weights come from is said aloud here, once: the run's own newest checkpoint; else what
`initial_params` returns (a checkpoint, a pruned teacher, or random numbers: the caller's choice).
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder
from demiurgic_jax.checkpoints.reading import DamagedCheckpointError
from demiurgic_jax.checkpoints.retention import Retention
from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.mixture import Mixture
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import PreemptedError, UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sharding.mesh import make_mesh
from demiurgic_jax.sharding.placement import put_batch, row_share
from demiurgic_jax.training.averages import find_average
from demiurgic_jax.training.blending import Schedule
from demiurgic_jax.training.config import TrainConfig, make_decoder
from demiurgic_jax.training.heldout import evaluate_groups, heldout_groups
from demiurgic_jax.training.hidden_matching import hidden_matching
from demiurgic_jax.training.losses import LossConfig, LossSums
from demiurgic_jax.training.meter import Meter
from demiurgic_jax.training.metrics import MetricLog, parameter_overview, perplexity
from demiurgic_jax.training.on_policy import Judge, OnPolicy, Sampler
from demiurgic_jax.training.online_teacher import TeacherModel, online_teacher
from demiurgic_jax.training.optimizer import learning_rate_schedule, make_optimizer
from demiurgic_jax.training.preemption import Preemption
from demiurgic_jax.training.profiling import ProfileWindow, traced
from demiurgic_jax.training.resuming import Phase, standing
from demiurgic_jax.training.spikes import DivergedError, SkippedData, require_healthy, skip_or_stop
from demiurgic_jax.training.state import TrainState, abstract_state, new_state, to_save
from demiurgic_jax.training.step import make_eval_step, make_train_step, require_divisible
from demiurgic_jax.training.watchdog import Watchdog
from demiurgic_jax.training.watching import Watch


def say_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def train(
    config: TrainConfig,
    model: ModelConfig,
    tokenizer: Tokenizer,
    train_set: ShardSet | Mixture,
    heldout_sets: Mapping[str, ShardSet],
    *,
    folder: Path,
    initial_params: Callable[[], Any],
    provenance: Mapping[str, Any],
    on_step: Callable[[int, Mapping[str, float]], None],
    profile: ProfileWindow | None = None,
    warn: Callable[[str], None] = say_on_stderr,
    phase: Phase = Phase(),  # noqa: B008 (it is frozen)
    open_teacher: Callable[[], TeacherModel] | None = None,
    watch: Watch | None = None,
    sample: Sampler | None = None,
    judge: Judge | None = None,
) -> None:
    """Trains for `config.steps`, resuming from the newest whole checkpoint in `folder`/checkpoints.

    `folder`/metrics.jsonl gets a row a step, and rows with `heldout/…` (training/heldout.py) at step 0, every
    `eval_every` steps and at the end. `on_step(step, metrics)` is called after each. Steps of `profile` leave a trace
    in `folder`/profile, and `watch` looks at the parameters every so many steps. `warn` hears of damaged checkpoints
    and skipped data. Raises DivergedError on NaN, infinity or a spike (training/spikes.py), PreemptedError after
    SIGTERM once the current step is saved, UserError when shards, tokenizer and checkpoint do not belong together.
    `open_teacher` is asked where `config.teacher.online` is set, `sample` where `config.on_policy.fraction` is, and
    `judge` where that names `top_logprobs`.

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
    decoder = make_decoder(config, model, mesh)
    teacher, teacher_params = None, list[Any]()
    if config.teacher.online:
        if open_teacher is None:
            raise UserError("train.teacher.online needs the teacher's weights: set config.teacher.path")
        opened = open_teacher()
        opened.require_pieces(tokenizer)
        teacher = online_teacher(opened.config, tokenizer.vocab_size, config.teacher, decoder, mesh)
        teacher_params = [teacher.place(opened)]
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = learning_rate_schedule(config.optimizer, config.steps)
    matching = None
    if config.hidden.is_used and teacher is not None:
        matching = hidden_matching(config.hidden, model, teacher.decoder.config, optax.adam(schedule))
    abstract = abstract_state(model, optimizer, mesh, matching)

    def step_for(loss: LossConfig) -> Callable[..., Any]:
        return make_train_step(
            decoder,
            optimizer,
            loss,
            mesh,
            abstract,
            config.grad_accum_steps,
            schedule=Schedule(loss, phase.start, config.steps),
            teacher=teacher,
            matching=matching,
            hidden_weight=partial(config.hidden.weight_at, first=phase.start, steps=config.steps),
        )

    train_step = step_for(config.loss)
    on_policy = None
    if config.on_policy.fraction:
        if sample is None or jax.process_count() > 1:
            raise UserError(
                f"train.on_policy.fraction={config.on_policy.fraction} needs someone who samples from the student in "
                "this process, and a run of one process: set it to 0 here"
            )
        told = bool(config.on_policy.top_logprobs)
        if told and judge is None:
            raise UserError(
                "train.on_policy.top_logprobs needs a teacher that is asked: set config.teacher.url or path"
            )
        on_policy = OnPolicy(config.on_policy, sample, config.seed, phase.start, judge if told else None)
        own_step = step_for(config.on_policy.loss(config.loss))
    eval_step = make_eval_step(decoder.clone(project=jnp.einsum), config.loss, mesh, abstract, teacher)
    sources = {"row_length": config.context, "seed": config.seed, "soft_targets": config.soft_targets}
    loader = Loader(
        train_set,
        batch_size=config.batch_size,
        packing=config.packing,
        fim=config.fim,
        tokenizer=tokenizer,
        **sources,
    )
    if loader.sampled:
        config.loss.require_linear()
    # A small held-out set may fill fewer rows than a training batch; one row per device is enough.
    eval_rows = mesh.shape["data"] * mesh.shape["fsdp"]
    heldout = heldout_groups(heldout_sets, **sources)
    averaged = config.optimizer.evaluates_average
    average = jax.jit(find_average, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract.params))
    card = Card(model, train_set.fingerprint, provenance, phase.name, phase.start)
    stop = phase.start + config.steps
    # The host reads a step's metrics while the device makes the next one, so that the device never waits. On CPUs they
    # are one, and programs that overlap on several devices can wait for each other for ever.
    reads_late = jax.default_backend() != "cpu"
    watchdog, preemption = Watchdog(config.hang_seconds), Preemption()
    damaged: list[int] = []

    def report_damage(step: int, damage: DamagedCheckpointError) -> None:
        damaged.append(step)
        warn(f"{damage}. It is moved aside, and the one before takes its place")

    def watched_eval_step(params: Any, batch: Batch) -> LossSums:
        sums = eval_step(params, batch, *teacher_params)
        watchdog.beat()
        return sums

    def evaluated(state: TrainState) -> Any:
        return average(state.params, state.opt_state) if averaged else state.params

    def evaluate(state: TrainState) -> dict[str, float]:
        watchdog.pause()  # the first time it compiles
        return evaluate_groups(watched_eval_step, evaluated(state), heldout, eval_rows, mesh)

    def read(done: int, device_metrics: Mapping[str, jax.Array], said: Mapping[str, float]) -> dict[str, float]:
        """Waits for the metrics of step `done` and checks them; `said` is what the host knows of it."""
        metrics = {name: float(value) for name, value in jax.device_get(device_metrics).items()}
        if on_policy is not None and said["on_policy"]:
            # Losses on samples are of another size than those on data, and no spike among them.
            require_healthy(done, metrics, (), config.spike)
        else:
            require_healthy(done, metrics, recent_losses, config.spike)
            recent_losses.append(metrics["loss"])
        metrics |= said
        watchdog.beat()
        # On the host: an accelerator would answer only after the step that it is busy with.
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            metrics["learning_rate"] = float(schedule(done - 1 - phase.start))
        metrics |= meter.measure(done)
        metrics["perplexity"] = perplexity(metrics["cross_entropy"])
        return metrics | ({"phase": phase.number} if phase.number else {})

    with CheckpointFolder(folder / "checkpoints", retention_of(config, phase)) as checkpoints, watchdog, preemption:
        if (checkpoints.latest_step() or 0) >= stop:
            return
        checkpoints.require_room([abstract.params, to_save(abstract, averaged)])
        skipped = SkippedData(folder, phase.name)
        while True:  # once, and once more after every spike whose data is skipped
            state, stored = standing(
                checkpoints,
                phase,
                card,
                abstract,
                partial(new_state, abstract=abstract, optimizer=optimizer, matching=matching, seed=config.seed),
                initial_params,
                report_damage,
                averaged=averaged,
            )
            start = int(jax.device_get(state.step))
            if profile is not None:
                profile.require_ahead(start, stop)
            skipped.include(stored.skipped)
            recent_losses = deque(stored.recent_losses, config.spike.window)
            log = MetricLog(folder, checkpoints.latest_step(), began=began, tensorboard=config.metrics.tensorboard)
            log.describe(parameters=parameter_overview(abstract.params))
            meter = Meter(
                config.metrics,
                model,
                log.history,
                rows=config.batch_size,
                row_length=config.context,
                steps=phase.run_steps or stop,
                devices=mesh.size,
            )
            if start == 0:
                log.write(0, evaluate(state))
            while damaged:
                log.write(start, {"damaged_checkpoint": damaged.pop(0)})
            unread = None
            watchdog.pause()  # until the first step is compiled and done
            meter.resume()
            steps = meter.waited(_steps(loader, mesh, config.loader_workers, skipped, phase.start, start, stop))
            try:
                for step, host_batch in traced(steps, profile, folder / "profile"):
                    step_with, said = train_step, dict[str, float]()
                    if on_policy is not None:
                        samples = None
                        if on_policy.is_due(step):
                            watchdog.pause()  # the first time it compiles
                            samples = on_policy.samples(state.params, step, host_batch)
                        if samples is not None:
                            step_with, host_batch = own_step, samples.batch
                            said = dict(samples.metrics)
                        said |= {"on_policy": float(samples is not None), "on_policy_share": on_policy.share(step + 1)}
                    batch = put_batch(host_batch, mesh)
                    with jax.transfer_guard("disallow"):
                        state, device_metrics = step_with(state, batch, *teacher_params)
                    if unread is not None:
                        metrics = read(*unread)
                        log.write(unread[0], metrics)
                        on_step(unread[0], metrics)
                    done = step + 1
                    unread = done, device_metrics, said
                    preempted = preemption.last(done)
                    evaluates = done % config.eval_every == 0 or done == stop
                    saves = done % config.checkpoint_every == 0 or done == stop or preempted
                    watched = watch is not None and watch.is_due(done)
                    if reads_late and not (evaluates or saves or watched):
                        continue
                    metrics, unread = read(*unread), None
                    figures = evaluate(state) if evaluates else {}
                    seen: Mapping[str, float] = {}
                    if watch is not None and watched:
                        watchdog.pause()  # it takes as long as it takes
                        seen = watch.look(done, evaluated(state))
                    log.write(done, {**metrics, **figures, **seen})
                    if saves:
                        now = replace(card, skipped=skipped.ranges, recent_losses=tuple(recent_losses), heldout=figures)
                        checkpoints.save(done, evaluated(state), tokenizer, now, to_save(state, averaged))
                    if preempted:
                        checkpoints.wait()
                        raise PreemptedError(
                            f"stopped by SIGTERM; step {done} is saved, the same command goes on from it"
                        )
                    on_step(done, {**metrics, **figures, **seen})
                    meter.resume()
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
    loader: Loader, mesh: Mesh, workers: int, skipped: SkippedData, phase_start: int, start: int, stop: int
) -> Iterator[tuple[int, Batch]]:
    """The steps of the run from `start` to `stop` - 1, each with the data that it is made with."""
    index, count = row_share(mesh)
    step = start
    while step < stop:
        first = skipped.data_step(step - phase_start)
        with loader.batches(first, process_index=index, process_count=count, workers=workers) as batches:
            for data_step, batch in batches:
                if step == stop or data_step != skipped.data_step(step - phase_start):
                    break
                yield step, batch
                step += 1
