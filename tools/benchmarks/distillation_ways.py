"""The ways to learn that tools.benchmarks.distillation compares, as the settings of a run."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from demiurgic_jax.sampling.scoring import ScoringConfig
from demiurgic_jax.training.config import COMPUTE_DTYPES, TrainConfig
from demiurgic_jax.training.hidden_matching import HiddenConfig
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.metrics import MetricsConfig
from demiurgic_jax.training.on_policy import OnPolicyConfig
from demiurgic_jax.training.online_teacher import TeacherConfig
from demiurgic_jax.training.optimizer import OptimizerConfig

WAYS: Mapping[str, Mapping[str, Any]] = {
    "text": {},
    "soft": {"divergence": "forward_kl", "kind": "sampled"},
    "mixed": {"divergence": "forward_kl", "kind": "sampled", "distill_weight": 0.5},
    "soft_top_p": {"divergence": "forward_kl", "kind": "top_p"},
    "mixed_top_p": {"divergence": "forward_kl", "kind": "top_p", "distill_weight": 0.5},
    "soft_reverse": {"divergence": "reverse_kl", "kind": "top_p"},
    "soft_jsd": {"divergence": "jsd", "kind": "top_p"},
    "online": {"teacher": TeacherConfig(online=True)},
    "online_int8": {"teacher": TeacherConfig(True, "int8")},
    "hidden": {"teacher": TeacherConfig(online=True), "hidden": HiddenConfig(weight=1.0)},
    "on_policy": {"teacher": TeacherConfig(online=True), "on_policy": 0.25},
    "on_policy_half": {"teacher": TeacherConfig(online=True), "on_policy": 0.5},
}


def kind_of(way: str) -> str | None:
    """The kind of soft targets that a way reads; None for none."""
    kind: str | None = WAYS[way].get("kind")
    return kind


def scoring_config(options: argparse.Namespace, kind: str) -> ScoringConfig:
    return ScoringConfig(
        options.samples if kind == "sampled" else options.top_k,
        options.top_p,
        options.context,
        COMPUTE_DTYPES[options.compute_dtype],
        batch_tokens=1024,
        kind=kind,
    )


def train_config(options: argparse.Namespace, way: str, seed: int, kind: str | None) -> TrainConfig:
    """One run. `text` reads no soft targets, `online` has the teacher in the step instead."""
    settings = WAYS[way]
    loss = LossConfig(chunk_tokens=128)
    if settings:
        loss = replace(
            loss,
            distill_weight=settings.get("distill_weight", options.distill_weight),
            temperature=options.temperature,
            divergence=settings.get("divergence", "forward_kl"),
        )
    # A sample and its beginning fill a row at most.
    own = OnPolicyConfig(settings.get("on_policy", 0.0), max(1, options.context // 4), max(1, options.context // 2))
    return TrainConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        context=options.context,
        seed=seed,
        soft_targets=scoring_config(options, kind).top_k if kind else 0,
        compute_dtype=options.compute_dtype,
        remat="dots",
        checkpoint_every=options.steps,
        keep_checkpoints=1,
        eval_every=options.steps,
        metrics=MetricsConfig(tensorboard="off"),
        optimizer=OptimizerConfig(learning_rate=options.learning_rate, warmup_steps=max(1, options.steps // 20)),
        loss=loss,
        teacher=settings.get("teacher", TeacherConfig()),
        hidden=settings.get("hidden", HiddenConfig()),
        on_policy=own,
    )
