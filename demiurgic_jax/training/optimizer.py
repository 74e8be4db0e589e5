"""AdamW with warmup and cosine decay, from a config."""

from dataclasses import dataclass
from typing import Any

import jax
import optax

from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019). The learning rate rises linearly over `warmup_steps` to
    `learning_rate`, then falls along a cosine to `final_fraction` of it at the last step."""

    learning_rate: float = 3e-4
    warmup_steps: int = 100
    final_fraction: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Step to learning rate, over a run of `steps`."""
    if config.warmup_steps >= steps:
        raise UserError(
            f"optimizer.warmup_steps={config.warmup_steps} leaves nothing of train.steps={steps}: make it smaller"
        )
    return optax.warmup_cosine_decay_schedule(
        # Not 0: a first step that changes nothing would be a step paid for in vain.
        init_value=config.learning_rate / (config.warmup_steps + 1),
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=steps,
        end_value=config.learning_rate * config.final_fraction,
    )


def _decays(params: Any) -> Any:
    """True for matrices; gains and biases are not pulled towards zero."""

    def is_matrix(path: Any, _: Any) -> bool:
        name = path[-1].key
        return "norm" not in name and not name.startswith("b")

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW under the schedule."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate_schedule(config, steps),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=_decays,
        ),
    )
