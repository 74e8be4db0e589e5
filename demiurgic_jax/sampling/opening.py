"""An engine straight from a checkpoint folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh


def open_engine(checkpoint: str | Path, *, mesh: Mapping[str, int] | None = None, **options: Any) -> Engine:
    """The engine, not yet started, of the newest model in a folder of checkpoints (or of one step's folder).

    `mesh` gives sizes of the axes of a mesh over all devices, 1 where it names none; without it one device serves.
    `options` are the keyword arguments of Engine. Raises UserError for a mesh that is none of these devices.
    """
    model = open_model(checkpoint)
    devices = make_mesh(MeshShape(**{"fsdp": 1, **mesh})) if mesh else None
    return Engine(model.config, model.params, model.tokenizer, mesh=devices, **options)
