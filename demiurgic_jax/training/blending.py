"""How much of the loss is the teacher's, and at what temperature: both are functions of the step alone."""

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
        config, moving = self.config, self.config.blend_fraction * self.steps
        done = jnp.clip((step - self.first) / jnp.maximum(moving, 1.0), 0.0, 1.0)
        share = done if config.blend_schedule == "linear" else (1 - jnp.cos(jnp.pi * done)) / 2
        return Blend(
            config.distill_weight + share * (config.final_distill_weight - config.distill_weight),
            config.temperature + share * (config.final_temperature - config.temperature),
        )
