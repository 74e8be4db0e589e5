"""An engine straight from a checkpoint folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh


def open_engine(
    checkpoint: str | Path,
    *,
    slots: int = 8,
    max_context: int | None = None,
    compute_dtype: Any = jnp.float32,
    int8_weights: bool = False,
    int8_cache: bool = False,
    mesh: Mesh | None = None,
) -> Engine:
    """The engine, not yet started, of the newest model in a folder of checkpoints (or of one step's folder)."""
    model = open_model(checkpoint)
    return Engine(
        model.config,
        model.params,
        model.tokenizer,
        slots=slots,
        max_context=max_context,
        compute_dtype=compute_dtype,
        int8_weights=int8_weights,
        int8_cache=int8_cache,
        mesh=mesh,
    )


def mesh_of(sizes: Mapping[str, int]) -> Mesh | None:
    """A mesh over all devices with these sizes of its axes, 1 where one is not named; None for no sizes: one device.

    Raises UserError when the product is not the number of devices.
    """
    return make_mesh(MeshShape(**{"fsdp": 1, **sizes})) if sizes else None
