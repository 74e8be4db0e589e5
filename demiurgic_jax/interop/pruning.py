"""A student cut out of a teacher: some of its layers, as they are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig


def evenly_spaced(num_layers: int, keep: int) -> list[int]:
    """`keep` layer indices spread over 0..num_layers-1, the first and the last among them."""
    if not 1 <= keep <= num_layers:
        raise UserError(f"{keep} layers cannot be kept of {num_layers}: choose 1 to {num_layers}")
    if keep == 1:
        return [0]
    # keep <= num_layers makes the spacing at least 1, so rounding never meets itself.
    return [round(index * (num_layers - 1) / (keep - 1)) for index in range(keep)]


def keep_layers(params: dict[str, Any], config: ModelConfig, layers: Sequence[int]) -> tuple[ModelConfig, Any]:
    """The model of the given layers, in ascending order; embeddings and final norm are shared, not copied."""
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= config.num_layers:
        raise UserError(
            f"layers {list(layers)} cannot be kept: give different indices from 0 to {config.num_layers - 1}, ascending"
        )
    kept = np.asarray(layers)
    pruned = {**params, "layers": {name: value[kept] for name, value in params["layers"].items()}}
    return replace(config, num_layers=len(layers)), pruned
