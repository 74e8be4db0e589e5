"""An engine straight from a checkpoint folder."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.sampling.engine import Engine


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
