"""How parts of the loss are weighed against each other as a run goes on: functions of the step alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from demiurgic_jax.training.losses import Blend, LossConfig


class Schedule(NamedTuple):
    """The blends of a run or phase that begins with step `first` (counted from 0) and has so many `steps`."""

    config: LossConfig
    first: int
    steps: int

    def __call__(self, step: jax.Array) -> Blend | None:
        """The blend of the update after `step` updates; None where it never changes, and the config says it."""
        if self.config.blend_schedule == "constant":
            return None
        config = self.config
        share = share_moved(config.blend_schedule, step, self.first, config.blend_fraction * self.steps)
        return Blend(
            config.distill_weight + share * (config.final_distill_weight - config.distill_weight),
            config.temperature + share * (config.final_temperature - config.temperature),
        )


def share_moved(schedule: str, step: jax.Array, first: int, moving: float) -> jax.Array:
    """How far, from 0 to 1, a `schedule` (linear, or cosine: slow at both ends) has gone after `step` updates, when it
    begins with step `first` and takes `moving` steps."""
    done = jnp.clip((step - first) / jnp.maximum(moving, 1.0), 0.0, 1.0)
    return done if schedule == "linear" else (1 - jnp.cos(jnp.pi * done)) / 2
