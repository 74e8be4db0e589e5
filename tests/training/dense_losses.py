"""The losses as their formulas read, over whole arrays [B, S, V], in NumPy and float64, gradients by hand.

Shape suffixes as in training/losses.py; N = B·S tokens, G outcomes that are compared (buckets, or the vocabulary).
"""

from typing import NamedTuple

import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.training.losses import LossConfig


class Teacher(NamedTuple):
    """One that runs beside the student; `real` as in TeacherStates."""

    hidden: np.ndarray
    unembedding: np.ndarray
    real: np.ndarray | None = None


def dense_sums(
    hidden_BSE: np.ndarray, unembedding_VE: np.ndarray, batch: Batch, config: LossConfig, teacher: Teacher | None = None
) -> tuple[dict[str, float], tuple[np.ndarray, np.ndarray]]:
    """Sums over the batch, named like the fields of LossSums, and the loss's gradients for both arrays."""
    hidden_NE = hidden_BSE.reshape(-1, hidden_BSE.shape[-1]).astype(np.float64)
    unembedding_VE = unembedding_VE.astype(np.float64)
    targets, weights = batch.targets.reshape(-1), batch.loss_weights.reshape(-1).astype(np.float64)
    logits_NV = hidden_NE @ unembedding_VE.T
    totals = {name: 0.0 for name in ("loss", "cross_entropy", "kl", "divergence", "z_loss", "correct")}
    totals |= {"weight": float(weights.sum()), "teacher_weight": 0.0, "hidden": 0.0}
    d_logits_NV = np.zeros_like(logits_NV)
    for n, logits_V in enumerate(logits_NV):
        log_z = np.log(np.exp(logits_V - logits_V.max()).sum()) + logits_V.max()
        q_V = np.exp(logits_V - log_z)
        cross_entropy = log_z - logits_V[targets[n]]
        d_cross_entropy_V = q_V - (np.arange(len(q_V)) == targets[n])
        pair = _outcomes(n, batch, teacher)
        alpha, divergence, kl, d_divergence_V = 0.0, 0.0, 0.0, 0.0
        if pair is not None:
            p_G, of_V = pair
            alpha = config.distill_weight
            divergence, d_divergence_V = _divergence(p_G, of_V, logits_V - log_z, config)
            kl, _ = _divergence(p_G, of_V, logits_V - log_z, LossConfig())
        scale = alpha * config.temperature**2
        values = {"cross_entropy": cross_entropy, "kl": kl, "divergence": divergence, "z_loss": log_z**2}
        values["loss"] = (1 - alpha) * cross_entropy + scale * divergence + config.z_loss * log_z**2
        values["correct"] = float(np.argmax(logits_V) == targets[n])
        for name, value in values.items():
            totals[name] += weights[n] * value
        totals["teacher_weight"] += weights[n] * (pair is not None)
        d_logits_V = (1 - alpha) * d_cross_entropy_V + scale * d_divergence_V + config.z_loss * 2 * log_z * q_V
        d_logits_NV[n] = weights[n] * d_logits_V
    return totals, ((d_logits_NV @ unembedding_VE).reshape(hidden_BSE.shape), d_logits_NV.T @ hidden_NE)


def _outcomes(n: int, batch: Batch, teacher: Teacher | None) -> tuple[np.ndarray, np.ndarray] | None:
    """The teacher's probabilities [G] of token n, and which outcome each id of the vocabulary belongs to, [V]."""
    if teacher is not None:
        vocabulary = len(teacher.unembedding)
        logits_V = teacher.unembedding.astype(np.float64) @ teacher.hidden.reshape(-1, teacher.hidden.shape[-1])[
            n
        ].astype(np.float64)
        if teacher.real is not None:
            logits_V[~teacher.real] = -np.inf
        p_V = np.exp(logits_V - logits_V.max())
        return p_V / p_V.sum(), np.arange(vocabulary)
    if batch.teacher_ids is None:
        return None
    ids, logprobs = (x.reshape(-1, x.shape[-1])[n] for x in (batch.teacher_ids, batch.teacher_logprobs))
    ids, p = ids[np.isfinite(logprobs)], np.exp(logprobs[np.isfinite(logprobs)].astype(np.float64))
    return (np.append(p, max(1 - p.sum(), 1e-7)), ids) if len(ids) else None


def _divergence(p_G: np.ndarray, ids: np.ndarray, log_q_V: np.ndarray, config: LossConfig) -> tuple[float, np.ndarray]:
    """Its value, and its gradient for the student's logits [V]."""
    vocabulary = len(log_q_V)
    outcome_V = np.full(vocabulary, len(p_G) - 1)  # what is not stored is the rest
    outcome_V[ids] = np.arange(len(ids))
    q_V = np.exp(log_q_V)
    mass_G = np.bincount(outcome_V, weights=q_V, minlength=len(p_G))
    temperature = config.temperature
    p = p_G ** (1 / temperature) / (p_G ** (1 / temperature)).sum()
    q = mass_G ** (1 / temperature) / (mass_G ** (1 / temperature)).sum()
    log_p, log_q = np.log(np.where(p > 0, p, 1)), np.log(q)
    beta, log_floor = config.jsd_beta, np.where(p > 0, np.maximum(log_p, -60.0), -60.0)
    if config.divergence == "forward_kl":
        value = (p * (log_p - log_q)).sum()
        d_q = -p / q
    elif config.divergence == "reverse_kl":
        value = (q * (log_q - log_floor)).sum()
        d_q = log_q - log_floor + 1
    else:
        m = beta * p + (1 - beta) * q
        value = beta * (p * (log_p - np.log(m))).sum() + (1 - beta) * (q * (log_q - np.log(m))).sum()
        d_q = (1 - beta) * (log_q - np.log(m))
    # Through the normalisation at temperature T, then from the outcomes' masses to the logits that share them.
    d_log_mass_G = q * (d_q - (q * d_q).sum()) / temperature
    return value, (d_log_mass_G / mass_G)[outcome_V] * q_V - q_V * d_log_mass_G.sum()
