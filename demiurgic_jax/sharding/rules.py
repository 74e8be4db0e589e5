"""The table from logical axes to mesh axes, and the shardings that follow from it."""

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.parameters import is_spec, parameter_specs

# Parameters are spread over `fsdp` along embed and over `tensor` along the other wide axis; the embeddings over both
# along the vocabulary, because a TPU scatters sums along rows of a matrix, but not along less than 128 of its columns.
# Activations are spread over `data` and `fsdp` by batch, `context` by sequence, `tensor` by head or channel.
RULES: Mapping[str, str | tuple[str, ...] | None] = {
    "layers": None,
    "vocab": ("fsdp", "tensor"),
    "channels": None,
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "norm": None,
    "batch": ("data", "fsdp"),
    "sequence": "context",
    "act_embed": None,
    "act_heads": "tensor",
    "act_mlp": "tensor",
}


def mesh_axes(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes that one dimension of an array lies over, as a tuple."""
    return (entry,) if isinstance(entry, str) else entry or ()


def partition_spec(axes: tuple[str, ...], rules: Mapping[str, Any] = RULES) -> PartitionSpec:
    """The mesh axes of an array with these logical axes; two that land on one mesh axis are refused."""
    taken: dict[str, str] = {}
    for name in axes:
        if name not in rules:
            raise UserError(f"logical axis {name!r} has no rule: known are {', '.join(rules)}")
        target = rules[name]
        for mesh_axis in mesh_axes(target):
            if mesh_axis in taken:
                raise UserError(
                    f"logical axes {taken[mesh_axis]!r} and {name!r} of one array both map to mesh axis {mesh_axis!r}"
                )
            taken[mesh_axis] = name
    return PartitionSpec(*(rules[name] for name in axes))


def parameter_shardings(mesh: Mesh, config: ModelConfig) -> dict[str, Any]:
    """Tree of NamedSharding for the parameters. UserError when an axis does not divide evenly."""

    def sharding(path: Any, spec: Any) -> NamedSharding:
        partition = partition_spec(spec.axes)
        for size, name, entry in zip(spec.shape, spec.axes, partition, strict=True):
            devices = math.prod(mesh.shape[axis] for axis in mesh_axes(entry))
            if size % devices:
                over = " × ".join(mesh_axes(entry))
                nearest = next(fewer for fewer in range(devices, 0, -1) if size % fewer == 0)
                raise UserError(
                    f"mesh axis {over!r} of {devices} devices does not divide the {size} {name} of "
                    f"parameter {jax.tree_util.keystr(path)}: give it {nearest} devices, and the others to `data`"
                )
        return NamedSharding(mesh, partition)

    return jax.tree_util.tree_map_with_path(sharding, parameter_specs(config), is_leaf=is_spec)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of [B, S] and [B, S, K] arrays of a batch."""
    return NamedSharding(mesh, partition_spec(("batch", "sequence")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())
