"""A Hugging Face folder of weights: config.json and safetensors, whole or in shards."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from demiurgic_jax.errors import UserError

_FLOAT_TYPES = {"F64", "F32", "F16", "BF16"}


class SafetensorsFolder:
    """The tensors of a folder, memory-mapped. Raises UserError when files are missing or damaged."""

    def __init__(self, folder: str | Path):
        self.path = Path(folder)
        self.config = self._json("config.json")
        self._file_of = {name: path for path in self._weight_files() for name in self._open(path).keys()}  # noqa: SIM118
        self._require_indexed()

    @property
    def tensor_names(self) -> list[str]:
        return list(self._file_of)

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._open(self._file_of[name]).get_slice(name).get_shape())

    def tensor(self, name: str) -> np.ndarray:
        """Tensor `name` as float32."""
        file = self._open(self._file_of[name])
        if (dtype := file.get_slice(name).get_dtype()) not in _FLOAT_TYPES:
            raise UserError(
                f"{self._file_of[name]}: tensor {name!r} is stored as {dtype}: only {', '.join(sorted(_FLOAT_TYPES))} "
                "can be imported, so use an unquantised copy"
            )
        return file.get_tensor(name).astype(np.float32, copy=False)

    @cached_property
    def _opened(self) -> dict[Path, Any]:
        return {}

    def _open(self, path: Path) -> Any:
        if path not in self._opened:
            try:
                self._opened[path] = safe_open(path, framework="np")
            except SafetensorError as error:
                raise UserError(f"{path} is damaged or cut off ({error}): fetch it again") from error
        return self._opened[path]

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
        name = "model.safetensors.index.json"
        if not (self.path / name).is_file():
            return None
        index = self._json(name).get("weight_map")
        if not isinstance(index, dict):
            raise UserError(f"{self.path / name} has no weight_map: fetch it again")
        return index

    def _weight_files(self) -> list[Path]:
        names = sorted(set(self._index.values())) if self._index is not None else ["model.safetensors"]
        paths = [self.path / name for name in names]
        for path in paths:
            if not path.is_file():
                raise UserError(f"{self.path} has no {path.name}: only weights in safetensors can be imported")
        return paths

    def _require_indexed(self) -> None:
        for name, shard in (self._index or {}).items():
            if self._file_of.get(name) != self.path / shard:
                raise UserError(f"{self.path / shard} does not hold tensor {name!r} as its index says: fetch it again")
