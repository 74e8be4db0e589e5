"""Next-token losses from hidden states, in chunks, with their own backward.

No array [B, S, V] ever exists: the sequence is walked in chunks, and each chunk's gradient with respect
to its logits is turned at once into gradients of the hidden states and of the unembedding. That is one
matmul less than recomputing the logits in a backward pass. A teacher that runs beside the student gives its hidden
states and unembedding, and its logits are made for the same chunks.

The rows of the unembeddings may lie over a mesh axis. Then each device makes the logits of its own rows only, and what
is needed of the whole vocabulary (maxima, sums, single logits) travels, [B, C] or [B, C, K] numbers at a time.

Shape suffixes: B batch, S sequence, C chunk of the sequence, E embed (a teacher's may differ), V vocab, K soft-target
entries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.errors import UserError
from demiurgic_jax.training.divergences import (
    DIVERGENCES,
    LOG_ZERO,
    bucket_divergence,
    forward_kl,
    full_divergence,
    sampled_forward_kl,
    student_buckets,
    teacher_buckets,
)
from demiurgic_jax.training.vocabulary_parts import logsumexp, pick, sum_parts

BLEND_SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class LossConfig:
    """loss = α·T²·D + (1-α)·CE + z·log²Z per token (Hinton et al. 2015; z-loss: PaLM, 2022).

    α is `distill_weight`, T `temperature`, z `z_loss`. D is the `divergence` of training/divergences.py, `jsd` with its
    `jsd_beta`. Tokens without a teacher take α = 0. Where `blend_schedule` is linear or cosine, α and T go to
    `final_distill_weight` and `final_temperature` over the first `blend_fraction` of the steps, and stay there.

    `chunk_tokens` bounds the tokens per sequence whose logits exist at once. Every chunk reads and writes the gradient
    of the unembedding: 1,024 take 10 % fewer of a TPU's cycles for the loss, a thousandth of a 7B step, and twice the
    memory of 512; a CPU's cache wants 128.
    """

    distill_weight: float = 0.0
    temperature: float = 1.0
    z_loss: float = 0.0
    chunk_tokens: int = 512
    divergence: str = "forward_kl"
    jsd_beta: float = 0.5
    blend_schedule: str = "constant"
    blend_fraction: float = 1.0
    final_distill_weight: float = 0.0
    final_temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("distill_weight", "final_distill_weight"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"loss.{name}={getattr(self, name)} is outside 0..1")
        for name in ("temperature", "final_temperature"):
            if not getattr(self, name) > 0:
                raise UserError(f"loss.{name}={getattr(self, name)} must be above 0")
        if self.chunk_tokens < 1:
            raise UserError(f"loss.chunk_tokens={self.chunk_tokens} must be at least 1")
        for name, known in (("divergence", DIVERGENCES), ("blend_schedule", BLEND_SCHEDULES)):
            if getattr(self, name) not in known:
                raise UserError(f"loss.{name}={getattr(self, name)!r} is unknown: choose one of {', '.join(known)}")
        if not 0.0 < self.jsd_beta < 1.0:
            raise UserError(
                f"loss.jsd_beta={self.jsd_beta} must lie between 0 and 1: at its ends take divergence=forward_kl or "
                "reverse_kl"
            )
        if not 0.0 < self.blend_fraction <= 1.0:
            raise UserError(f"loss.blend_fraction={self.blend_fraction} must be above 0 and at most 1")

    @property
    def uses_teacher(self) -> bool:
        """Whether any step learns from a teacher's distribution."""
        return self.distill_weight > 0 or (self.blend_schedule != "constant" and self.final_distill_weight > 0)

    def require_linear(self) -> None:
        """UserError unless the loss is linear in the teacher's probabilities, as sampled soft targets need it."""
        temperatures = {self.temperature} | ({self.final_temperature} if self.blend_schedule != "constant" else set())
        if self.uses_teacher and (self.divergence != "forward_kl" or temperatures != {1.0}):
            raise UserError(
                "the shards hold samples of the teacher's distribution, which teach the forward KL at temperature 1 "
                f"alone: set train.loss.divergence=forward_kl (not {self.divergence}) and every temperature to 1, or "
                "score soft targets with shards.soft_target_kind=top_p"
            )


class Blend(NamedTuple):
    """α and T of one step, where they change from step to step: float32 scalars."""

    distill_weight: jax.Array
    temperature: jax.Array


class TeacherStates(NamedTuple):
    """What a teacher that runs beside the student makes of the same batch; nothing of it gets a gradient.

    The unembedding has the student's rows, in the student's order; `real` is False for rows that the teacher's
    tokenizer has no piece for, None where it has one for each.
    """

    hidden: Any  # [B, S, E]
    unembedding: Any  # [V, E]
    real: Any = None  # bool [V]


class LossSums(NamedTuple):
    """Float32 scalars: sums over tokens, each times its loss weight. Divide by `weight` for means (`kl` and
    `divergence` by `teacher_weight`). Only `loss` carries a gradient.

    `kl` is the forward KL at temperature 1, whatever the loss has: it can be compared between runs. `divergence` is
    what the loss has. `hidden` is the distance between hidden states where training/hidden_matching.py adds one to the
    loss; here it is 0.
    """

    loss: jax.Array
    cross_entropy: jax.Array
    kl: jax.Array
    divergence: jax.Array
    z_loss: jax.Array
    correct: jax.Array
    weight: jax.Array
    teacher_weight: jax.Array
    hidden: jax.Array


def _stored_divergence(batch: Batch) -> Callable[..., jax.Array]:
    """What compares stored soft targets: the buckets, or at sampled positions the samples."""
    sampled, logprobs = batch.teacher_sampled, batch.teacher_logprobs
    if sampled is None or logprobs is None:
        return bucket_divergence

    def measure(terms: Any, teacher: jax.Array, student: jax.Array, temperature: Any, beta: float) -> jax.Array:
        of_samples = sampled_forward_kl(logprobs, student)
        return jnp.where(sampled, of_samples, bucket_divergence(terms, teacher, student, temperature, beta))

    return measure


def chunk_sums(
    logits_BCV: jax.Array,
    batch: Batch,
    config: LossConfig,
    vocabulary_axis: str | None = None,
    blend: Blend | None = None,
    teacher_logits_BCV: jax.Array | None = None,
) -> LossSums:
    """The sums over one chunk, from its float32 logits (of this device's rows where there is a `vocabulary_axis`)."""
    log_normalizer, largest = logsumexp(logits_BCV, vocabulary_axis)
    target_logits = pick(logits_BCV, batch.targets[..., None], vocabulary_axis)[..., 0]
    cross_entropy = log_normalizer - target_logits
    z_loss = jnp.square(log_normalizer)
    weights = batch.loss_weights
    distill_weight, temperature = blend or (config.distill_weight, config.temperature)
    alpha: Any = 0.0
    kl = divergence = teacher_weight = jnp.zeros_like(cross_entropy)
    between: tuple[Callable[..., jax.Array], jax.Array, jax.Array] | None = None
    if teacher_logits_BCV is not None:
        has_teacher = jnp.ones(weights.shape, bool)
        between = partial(full_divergence, vocabulary_axis=vocabulary_axis), teacher_logits_BCV, logits_BCV
    elif batch.teacher_ids is not None and batch.teacher_logprobs is not None:
        used = batch.teacher_logprobs > LOG_ZERO
        has_teacher = used[..., 0]
        student = student_buckets(logits_BCV, log_normalizer, batch.teacher_ids, used, vocabulary_axis)
        between = _stored_divergence(batch), teacher_buckets(batch.teacher_logprobs), student
    if between is not None:
        measure, teacher, student = between
        terms = DIVERGENCES[config.divergence]
        divergence = jnp.where(has_teacher, measure(terms, teacher, student, temperature, config.jsd_beta), 0)
        reported = terms is forward_kl and blend is None and config.temperature == 1
        kl = divergence if reported else jnp.where(has_teacher, measure(forward_kl, teacher, student, 1.0, 0.0), 0)
        teacher_weight = jnp.where(has_teacher, weights, 0)
        alpha = jnp.where(has_teacher, distill_weight, 0.0)
    loss = (1 - alpha) * cross_entropy + alpha * temperature**2 * divergence + config.z_loss * z_loss
    correct = target_logits >= largest
    return LossSums(
        loss=jnp.sum(loss * weights),
        cross_entropy=jnp.sum(cross_entropy * weights),
        kl=jnp.sum(kl * weights),
        divergence=jnp.sum(divergence * weights),
        z_loss=jnp.sum(z_loss * weights),
        correct=jnp.sum(correct * weights),
        weight=jnp.sum(weights),
        teacher_weight=jnp.sum(teacher_weight),
        hidden=jnp.zeros((), jnp.float32),
    )


def _chunks(x: Any, count: int) -> Any:
    """[B, S, ...] to [count, B, S / count, ...]: what a scan walks over."""

    def split(array: jax.Array) -> jax.Array:
        B, S = array.shape[:2]
        return array.reshape(B, count, S // count, *array.shape[2:]).swapaxes(0, 1)

    return jax.tree.map(split, x)


def _chunk_count(sequence: int, chunk_tokens: int) -> int:
    """The fewest equal chunks of at most `chunk_tokens`."""
    return next(n for n in range(1, sequence + 1) if sequence % n == 0 and sequence // n <= chunk_tokens)


def _logits(hidden_BCE: jax.Array, unembedding_VE: jax.Array) -> jax.Array:
    return jnp.einsum("bce,ve->bcv", hidden_BCE, unembedding_VE, preferred_element_type=jnp.float32)


def _add(left: Any, right: Any) -> Any:
    return jax.tree.map(jnp.add, left, right)


def _no_sums() -> LossSums:
    return LossSums(*(jnp.zeros((), jnp.float32) for _ in LossSums._fields))


def _on_parts(
    function: Callable[..., Any], vocabulary_axis: str | None, out_specs: Any
) -> Callable[[jax.Array, jax.Array, Batch, Blend | None, TeacherStates | None], Any]:
    """`function(hidden, unembedding, batch, blend, teacher)` as each device runs it, with its rows of the unembeddings
    only."""
    if vocabulary_axis is None:
        return function
    whole, rows = PartitionSpec(), PartitionSpec(vocabulary_axis)
    in_specs = (whole, rows, whole, whole, TeacherStates(whole, rows, rows))

    def on_parts(hidden: Any, unembedding: Any, batch: Any, blend: Any, teacher: Any) -> Any:
        specs = in_specs if teacher is not None else (*in_specs[:-1], whole)
        run = jax.shard_map(
            function, in_specs=specs, out_specs=out_specs, axis_names={vocabulary_axis}, check_vma=False
        )
        return run(hidden, unembedding, batch, blend, teacher)

    return on_parts


def _chunk_loss(
    unembedding_VE: jax.Array,
    config: LossConfig,
    vocabulary_axis: str | None,
    blend: Blend | None,
    teacher: TeacherStates | None,
) -> Callable[[jax.Array, Batch, jax.Array | None], tuple[jax.Array, Callable[[jax.Array], LossSums]]]:
    """(hidden states, batch, the teacher's hidden states) of a chunk → its logits, and the sums as a function of
    them."""

    def chunk(
        hidden_BCE: jax.Array, part: Batch, teacher_hidden_BCE: jax.Array | None
    ) -> tuple[jax.Array, Callable[[jax.Array], LossSums]]:
        teacher_logits_BCV = None
        if teacher is not None and teacher_hidden_BCE is not None:
            teacher_logits_BCV = _logits(teacher_hidden_BCE, teacher.unembedding)
            if teacher.real is not None:
                teacher_logits_BCV = jnp.where(teacher.real, teacher_logits_BCV, LOG_ZERO)

        def sums_of(logits_BCV: jax.Array) -> LossSums:
            return chunk_sums(logits_BCV, part, config, vocabulary_axis, blend, teacher_logits_BCV)

        return _logits(hidden_BCE, unembedding_VE), sums_of

    return chunk


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def next_token_loss(
    hidden_BSE: jax.Array,
    unembedding_VE: jax.Array,
    batch: Batch,
    config: LossConfig,
    vocabulary_axis: str | None = None,
    blend: Blend | None = None,
    teacher: TeacherStates | None = None,
) -> LossSums:
    """Sums of every loss part over the batch; differentiable in `hidden_BSE` and `unembedding_VE`.

    Both are in the compute dtype; the losses are float32. With a `vocabulary_axis` the rows of the unembedding are
    spread over that axis of the mesh, and ids in the batch are numbers of rows. `blend` takes the place of the config's
    α and T, `teacher` that of the batch's soft targets.
    """
    count = _chunk_count(hidden_BSE.shape[1], config.chunk_tokens)

    def sums_of(
        hidden_BSE: jax.Array,
        unembedding_VE: jax.Array,
        batch: Batch,
        blend: Blend | None,
        teacher: TeacherStates | None,
    ) -> LossSums:
        chunk_loss = _chunk_loss(unembedding_VE, config, vocabulary_axis, blend, teacher)

        def step(sums: LossSums, chunk: Any) -> tuple[LossSums, None]:
            logits_BCV, sums_of_logits = chunk_loss(*chunk)
            return _add(sums, sums_of_logits(logits_BCV)), None

        rows = hidden_BSE, batch, teacher.hidden if teacher is not None else None
        return jax.lax.scan(step, _no_sums(), _chunks(rows, count))[0]

    return _on_parts(sums_of, vocabulary_axis, PartitionSpec())(hidden_BSE, unembedding_VE, batch, blend, teacher)


def _forward(
    hidden_BSE: jax.Array,
    unembedding_VE: jax.Array,
    batch: Batch,
    config: LossConfig,
    vocabulary_axis: str | None,
    blend: Blend | None,
    teacher: TeacherStates | None,
) -> Any:
    count = _chunk_count(hidden_BSE.shape[1], config.chunk_tokens)

    def sums_and_gradients(
        hidden_BSE: jax.Array,
        unembedding_VE: jax.Array,
        batch: Batch,
        blend: Blend | None,
        teacher: TeacherStates | None,
    ) -> Any:
        chunk_loss = _chunk_loss(unembedding_VE, config, vocabulary_axis, blend, teacher)

        def step(carry: Any, chunk: Any) -> tuple[Any, jax.Array]:
            sums, d_unembedding_VE = carry
            hidden_BCE = chunk[0]
            logits_BCV, sums_of_logits = chunk_loss(*chunk)

            def loss_of(logits_BCV: jax.Array) -> tuple[jax.Array, LossSums]:
                new = sums_of_logits(logits_BCV)
                return new.loss, new

            d_logits_BCV, new = jax.grad(loss_of, has_aux=True)(logits_BCV)
            d_logits_BCV = d_logits_BCV.astype(hidden_BCE.dtype)
            d_hidden_BCE = jnp.einsum("bcv,ve->bce", d_logits_BCV, unembedding_VE, preferred_element_type=jnp.float32)
            d_hidden_BCE = d_hidden_BCE.astype(hidden_BCE.dtype)
            d_unembedding_VE += jnp.einsum("bcv,bce->ve", d_logits_BCV, hidden_BCE, preferred_element_type=jnp.float32)
            return (_add(sums, new), d_unembedding_VE), d_hidden_BCE

        start = (_no_sums(), jnp.zeros(unembedding_VE.shape, jnp.float32))
        rows = hidden_BSE, batch, teacher.hidden if teacher is not None else None
        (sums, d_unembedding_VE), d_hidden = jax.lax.scan(step, start, _chunks(rows, count))
        d_hidden_BSE = sum_parts(d_hidden.swapaxes(0, 1).reshape(hidden_BSE.shape), vocabulary_axis)
        return sums, (d_hidden_BSE, d_unembedding_VE.astype(unembedding_VE.dtype))

    out_specs = (PartitionSpec(), (PartitionSpec(), PartitionSpec(vocabulary_axis)))
    run = _on_parts(sums_and_gradients, vocabulary_axis, out_specs)
    return run(hidden_BSE, unembedding_VE, batch, blend, teacher)


def _backward(
    config: LossConfig, vocabulary_axis: str | None, gradients: tuple[jax.Array, jax.Array], cotangent: LossSums
) -> Any:
    d_hidden_BSE, d_unembedding_VE = gradients
    scale = cotangent.loss
    return (
        (scale * d_hidden_BSE).astype(d_hidden_BSE.dtype),
        (scale * d_unembedding_VE).astype(d_unembedding_VE.dtype),
        None,
        None,
        None,
    )


next_token_loss.defvjp(_forward, _backward)
