"""Llama-family tensors, as others store them, into the parameter tree of a ModelConfig.

GGUF and Hugging Face both store matrices [out, in], one tensor a layer; ours are [in, out] with the heads
on an axis of their own, and layers stacked.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.parameters import parameter_specs

# Leading axes of our matrix that it reads from; the others are what it writes to.
_INPUT_AXES = {"wq": 1, "wk": 1, "wv": 1, "wo": 2, "w_gate": 1, "w_up": 1, "w_down": 1}

Reorder = Callable[[str, np.ndarray], np.ndarray]


class StoredTensors(Protocol):
    """A file or folder of named tensors."""

    path: Path

    @property
    def tensor_names(self) -> list[str]: ...

    def tensor_shape(self, name: str) -> tuple[int, ...]: ...

    def tensor(self, name: str) -> np.ndarray:
        """Float32."""
        ...


def read_parameters(
    config: ModelConfig,
    stored: StoredTensors,
    names: Mapping[str, str],
    *,
    unneeded: tuple[str, ...] = (),
    reorder: Reorder = lambda name, value: value,
) -> dict[str, Any]:
    """Float32 host arrays in the tree of `config`, read tensor by tensor.

    `names` maps our name of a parameter to the stored one, with {} for the layer; `reorder` gets our name
    and the stored tensor before it is laid out. UserError names the first tensor that is missing, of
    another shape, or has no place in this network (unless its name ends in one of `unneeded`).
    """
    specs = parameter_specs(config)
    layer_specs = specs.pop("layers")
    _require_tensors(config, stored, names, unneeded)

    def fill(out: np.ndarray, name: str, stored_name: str) -> None:
        value = reorder(name, stored.tensor(stored_name))
        out[...] = (value.T if name in _INPUT_AXES else value).reshape(out.shape)

    params: dict[str, Any] = {name: np.empty(spec.shape, np.float32) for name, spec in specs.items()}
    for name, out in params.items():
        fill(out, name, names[name])
    params["layers"] = {name: np.empty(spec.shape, np.float32) for name, spec in layer_specs.items()}
    for name, stack in params["layers"].items():
        for index, out in enumerate(stack):
            fill(out, name, names[name].format(index))
    return params


def _require_tensors(
    config: ModelConfig, stored: StoredTensors, names: Mapping[str, str], unneeded: tuple[str, ...]
) -> None:
    specs = parameter_specs(config)
    layer_specs = specs.pop("layers")
    present, used = set(stored.tensor_names), set()

    def require(stored_name: str, shape: tuple[int, ...]) -> None:
        if stored_name not in present:
            raise UserError(f"{stored.path} has no tensor {stored_name!r}: it is not a complete model")
        if (found := stored.tensor_shape(stored_name)) != shape:
            raise UserError(
                f"{stored.path} has tensor {stored_name!r} of shape {found}, its metadata wants {shape}: "
                "weights and metadata do not belong together"
            )
        used.add(stored_name)

    for name, spec in specs.items():
        require(names[name], spec.shape)
    # Layer by layer, so that an absurd number of layers ends at the first one missing.
    for index in range(config.num_layers):
        for name, spec in layer_specs.items():
            require(names[name].format(index), _stored_shape(name, spec.shape[1:]))
    if extra := sorted(name for name in present - used if not name.endswith(unneeded)):
        raise UserError(
            f"{stored.path} has tensor {extra[0]!r}, which has no place in a network of its metadata's shape: "
            "this variant cannot be imported"
        )


def _stored_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if name not in _INPUT_AXES:
        return (math.prod(shape),)
    axes = _INPUT_AXES[name]
    return math.prod(shape[axes:]), math.prod(shape[:axes])
