"""A Hugging Face folder of weights: config.json and safetensors, whole or in shards."""

import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from demiurgic_jax.data.files import give_back_pages
from demiurgic_jax.errors import UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOAT_TYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
}
# What it is if it is not safetensors.
_OTHER_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.safetensors", "tf_model.h5")


class _Tensor(NamedTuple):
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


class SafetensorsFolder:
    """The tensors of a folder, memory-mapped. Raises UserError when files are missing or damaged."""

    def __init__(self, folder: str | Path):
        self.path = Path(folder)
        self.config = self._json("config.json")
        self._tensors: dict[str, _Tensor] = {}
        for path in self._weight_files():
            self._tensors |= _read_header(path)
        self._require_indexed()

    @property
    def tensor_names(self) -> list[str]:
        return list(self._tensors)

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def tensor_dtype(self, name: str) -> np.dtype:
        """float64, float32, float16 or bfloat16; UserError for others."""
        tensor = self._tensors[name]
        if tensor.dtype not in FLOAT_TYPES:
            raise UserError(
                f"{tensor.path}: tensor {name!r} is stored as {tensor.dtype}: only {', '.join(sorted(FLOAT_TYPES))} "
                "can be imported, so use an unquantised copy"
            )
        return FLOAT_TYPES[tensor.dtype]

    def tensor(self, name: str) -> np.ndarray:
        """A view of tensor `name` in its file, which is mapped for as long as the view lives."""
        tensor = self._tensors[name]
        return np.memmap(tensor.path, self.tensor_dtype(name), "r", tensor.offset, tensor.shape)

    def release(self, name: str) -> None:
        """Tensor `name` has been read: no view of it lives, and none will be asked for soon."""
        tensor = self._tensors[name]
        size = math.prod(tensor.shape) * self.tensor_dtype(name).itemsize
        give_back_pages(tensor.path, tensor.offset, size)

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.is_file():
            raise UserError(f"{self.path} has no {name}: give a Hugging Face model folder, or a .gguf file")
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise UserError(f"{path} is not JSON ({error}): fetch it again") from error
        if not isinstance(content, dict):
            raise UserError(f"{path} is not a JSON object: fetch it again")
        return content

    @cached_property
    def _index(self) -> dict[str, str] | None:
        """Tensor name to shard, where the weights are in shards."""
        if not (self.path / INDEX).is_file():
            return None
        index = self._json(INDEX).get("weight_map")
        if not isinstance(index, dict):
            raise UserError(f"{self.path / INDEX} has no weight_map: fetch it again")
        return index

    def _weight_files(self) -> list[Path]:
        names = sorted(set(self._index.values())) if self._index is not None else [WEIGHTS]
        paths = [self.path / name for name in names]
        for path in paths:
            if not path.is_file():
                other = next((name for name in _OTHER_WEIGHTS if (self.path / name).exists()), None)
                found = f" (there is {other})" if other else ""
                raise UserError(f"{self.path} has no {path.name}{found}: only weights in safetensors can be imported")
        return paths

    def _require_indexed(self) -> None:
        for name, shard in (self._index or {}).items():
            if name not in self._tensors or self._tensors[name].path != self.path / shard:
                raise UserError(f"{self.path / shard} does not hold tensor {name!r} as its index says: fetch it again")


def _read_header(path: Path) -> dict[str, _Tensor]:
    """Where each tensor of a file lies: eight bytes of length, then JSON, then the tensors.

    The library opens it first: it checks that the tensors lie one behind the other and end where the file does. It
    gives copies only, so they are mapped here. Format: github.com/huggingface/safetensors.
    """
    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or cut off ({error}): fetch it again") from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    start = 8 + length
    return {
        name: _Tensor(path, entry["dtype"], tuple(entry["shape"]), start + entry["data_offsets"][0])
        for name, entry in header.items()
    }
