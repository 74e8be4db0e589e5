"""A student cut out of a teacher: some of its layers, heads and MLP channels, as they are."""

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


def most_important(layers: np.ndarray, keep: int) -> list[int]:
    """The `keep` layers with the highest importance [L], in ascending order."""
    if not 1 <= keep <= len(layers):
        raise UserError(f"{keep} layers cannot be kept of {len(layers)}: choose 1 to {len(layers)}")
    return sorted(np.argsort(-layers, kind="stable")[:keep].tolist())


def keep_heads(
    params: dict[str, Any], config: ModelConfig, importance: np.ndarray, num_heads: int
) -> tuple[ModelConfig, Any]:
    """The model with the `num_heads` query heads of each layer that matter most by `importance` [L, H].

    As many of each group that shares a key-value head, where they can be shared out so; else whole groups, by the sum
    of their heads.
    """
    groups, size = config.num_kv_heads, config.num_heads // config.num_kv_heads
    by_group = importance.reshape(len(importance), groups, size)
    if 1 <= num_heads <= config.num_heads and num_heads % groups == 0:
        kept_groups = np.broadcast_to(np.arange(groups), by_group.shape[:2])
        within = _largest(by_group, num_heads // groups)
    elif 1 <= num_heads <= config.num_heads and num_heads % size == 0:
        kept_groups = _largest(by_group.sum(-1), num_heads // size)
        within = np.broadcast_to(np.arange(size), (*kept_groups.shape, size))
    else:
        raise UserError(
            f"{num_heads} heads cannot be kept of {config.num_heads} in {groups} groups of {size}: choose a multiple "
            f"of {groups} or of {size}, at most {config.num_heads}"
        )
    kept = (kept_groups[..., None] * size + within).reshape(len(importance), -1)
    layers = dict(params["layers"])
    for name, axis, indices in (
        *((name, axis, kept) for name, axis in (("wq", 2), ("wo", 1), ("bq", 1))),
        *((name, axis, kept_groups) for name, axis in (("wk", 2), ("wv", 2), ("bk", 1), ("bv", 1))),
    ):
        if name in layers:
            layers[name] = _taken(layers[name], indices, axis)
    pruned = replace(config, num_heads=num_heads, num_kv_heads=kept_groups.shape[1])
    return pruned, {**params, "layers": layers}


def keep_channels(
    params: dict[str, Any], config: ModelConfig, importance: np.ndarray, mlp_dim: int
) -> tuple[ModelConfig, Any]:
    """The model with the `mlp_dim` MLP channels of each layer that matter most by `importance` [L, F]."""
    if not 1 <= mlp_dim <= config.mlp_dim:
        raise UserError(f"{mlp_dim} MLP channels cannot be kept of {config.mlp_dim}: choose 1 to {config.mlp_dim}")
    kept = _largest(importance, mlp_dim)
    layers = dict(params["layers"])
    for name, axis in (("w_gate", 2), ("w_up", 2), ("w_down", 1)):
        layers[name] = _taken(layers[name], kept, axis)
    return replace(config, mlp_dim=mlp_dim), {**params, "layers": layers}


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` largest along the last axis are, in ascending order."""
    return np.sort(np.argsort(-values, axis=-1, kind="stable")[..., :count], axis=-1)


def _taken(stacked: np.ndarray, kept: np.ndarray, axis: int) -> np.ndarray:
    """Of each layer [L, …] its own entries `kept` [L, n] along `axis`."""
    stacked = np.asarray(stacked)
    shape = [len(stacked)] + [1] * (stacked.ndim - 1)
    shape[axis] = kept.shape[1]
    return np.take_along_axis(stacked, kept.reshape(shape), axis=axis)
