"""The losses as their formulas read, token by token, in float64 NumPy."""

import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.training.losses import LossConfig


def dense_sums(
    hidden_BSE: np.ndarray, unembedding_VE: np.ndarray, batch: Batch, config: LossConfig
) -> dict[str, float]:
    """Sums over the batch, named like the fields of LossSums."""
    sums = dict.fromkeys(("loss", "cross_entropy", "kl", "z_loss", "correct", "weight", "teacher_weight"), 0.0)
    for row, position in np.ndindex(batch.tokens.shape):
        weight = float(batch.loss_weights[row, position])
        logits = unembedding_VE.astype(np.float64) @ hidden_BSE[row, position].astype(np.float64)
        log_z = logits.max() + np.log(np.exp(logits - logits.max()).sum())
        target = batch.targets[row, position]
        cross_entropy, z_loss = log_z - logits[target], log_z**2
        loss = cross_entropy + config.z_loss * z_loss
        if batch.teacher_ids is not None and np.isfinite(batch.teacher_logprobs[row, position, 0]):
            kl = _kl(
                logits, batch.teacher_ids[row, position], batch.teacher_logprobs[row, position], config.temperature
            )
            alpha = config.distill_weight
            loss = (1 - alpha) * cross_entropy + alpha * config.temperature**2 * kl + config.z_loss * z_loss
            sums["kl"] += weight * kl
            sums["teacher_weight"] += weight
        sums["loss"] += weight * loss
        sums["cross_entropy"] += weight * cross_entropy
        sums["z_loss"] += weight * z_loss
        sums["correct"] += weight * (logits.argmax() == target)
        sums["weight"] += weight
    return sums


def _kl(logits: np.ndarray, ids: np.ndarray, logprobs: np.ndarray, temperature: float) -> float:
    used = np.isfinite(logprobs)
    p = np.exp(logprobs[used].astype(np.float64))
    p = np.append(p, max(1 - p.sum(), 1e-7))
    probs = np.exp(logits - logits.max())
    probs /= probs.sum()
    others = np.ones(len(probs), bool)
    others[ids[used]] = False
    q = np.append(probs[ids[used]], probs[others].sum())
    p, q = p ** (1 / temperature), q ** (1 / temperature)
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))
