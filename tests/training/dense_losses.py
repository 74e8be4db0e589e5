"""The losses as their formulas read, over whole arrays [B, S, V], in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.training.losses import LossConfig


def dense_sums(
    hidden_BSE: np.ndarray, unembedding_VE: np.ndarray, batch: Batch, config: LossConfig
) -> tuple[dict[str, float], tuple[np.ndarray, np.ndarray]]:
    """Sums over the batch, named like the fields of LossSums, and the loss's gradients for both arrays."""
    with jax.enable_x64(True):
        both = jnp.asarray(hidden_BSE, jnp.float64), jnp.asarray(unembedding_VE, jnp.float64)
        gradients, sums = _gradients(*both, batch, config)
        return {name: float(value) for name, value in sums.items()}, jax.tree.map(np.asarray, gradients)


def _loss(hidden_BSE: Any, unembedding_VE: Any, batch: Batch, config: LossConfig) -> tuple[Any, dict[str, Any]]:
    logits = jnp.einsum("bse,ve->bsv", hidden_BSE, unembedding_VE)
    weights = jnp.asarray(batch.loss_weights, jnp.float64)
    log_q = jax.nn.log_softmax(logits)
    vocabulary = jnp.arange(logits.shape[-1])
    cross_entropy = -jnp.sum(jnp.where(vocabulary == batch.targets[..., None], log_q, 0), -1)
    z_loss = jax.nn.logsumexp(logits, axis=-1) ** 2
    has_teacher, kl = jnp.zeros(weights.shape, bool), jnp.zeros_like(cross_entropy)
    if batch.teacher_ids is not None:
        used = jnp.isfinite(batch.teacher_logprobs)
        has_teacher = used[..., 0]
        kl = jnp.where(has_teacher, _kl(log_q, batch.teacher_ids, batch.teacher_logprobs, used, config.temperature), 0)
    alpha = jnp.where(has_teacher, config.distill_weight, 0)
    loss = (1 - alpha) * cross_entropy + alpha * config.temperature**2 * kl + config.z_loss * z_loss
    correct = jnp.argmax(logits, -1) == batch.targets
    sums = {"loss": loss, "cross_entropy": cross_entropy, "kl": kl, "z_loss": z_loss, "correct": correct, "weight": 1}
    sums = {name: jnp.sum(value * weights) for name, value in sums.items()}
    return sums["loss"], sums | {"teacher_weight": jnp.sum(has_teacher * weights)}


_gradients = jax.jit(jax.grad(_loss, argnums=(0, 1), has_aux=True), static_argnums=3)


def _kl(log_q: Any, ids: Any, logprobs: Any, used: Any, temperature: float) -> Any:
    """Over the teacher's entries and the rest, [B, S]."""
    p = jnp.where(used, jnp.exp(jnp.asarray(logprobs, jnp.float64)), 0)
    p = jnp.concatenate([p, jnp.maximum(1 - p.sum(-1, keepdims=True), 1e-7)], -1)
    taken = (jnp.arange(log_q.shape[-1]) == ids[..., None]) & used[..., None]  # [B, S, K, V]
    picked = jnp.sum(jnp.where(taken, jnp.exp(log_q)[..., None, :], 0), -1)
    rest = jnp.sum(jnp.where(taken.any(-2), 0, jnp.exp(log_q)), -1, keepdims=True)
    q = jnp.concatenate([picked, rest], -1)
    counts = jnp.concatenate([used, jnp.ones((*used.shape[:-1], 1), bool)], -1)
    p, q = (jnp.where(counts, jnp.where(counts, x, 1) ** (1 / temperature), 0) for x in (p, q))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return jnp.sum(jnp.where(counts, p * (jnp.log(jnp.where(counts, p, 1)) - jnp.log(jnp.where(counts, q, 1))), 0), -1)
