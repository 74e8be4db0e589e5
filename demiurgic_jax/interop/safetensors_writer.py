"""Writes a safetensors file tensor by tensor: the library would have all of a file's tensors, and a copy of each, in
memory first. Format: github.com/huggingface/safetensors."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from demiurgic_jax.data.files import give_back_pages
from demiurgic_jax.interop.safetensors_folder import FLOAT_TYPES

_NAME_OF = {dtype: name for name, dtype in FLOAT_TYPES.items()}


class TensorInfo(NamedTuple):
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(path: Path, infos: Sequence[TensorInfo], tensors: Iterator[np.ndarray]) -> None:
    """Writes the next `len(infos)` of `tensors`, which are as `infos` say, to `path`, on disk for good."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for info in infos:
        start, end = end, end + info.nbytes
        header[info.name] = {"dtype": _NAME_OF[info.dtype], "shape": info.shape, "data_offsets": [start, end]}
    content = json.dumps(header, separators=(",", ":")).encode()
    # The tensors begin at a multiple of eight.
    content += b" " * (-len(content) % 8)
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        for info in infos:
            tensor = next(tensors)
            assert (tensor.dtype, tensor.shape) == (info.dtype, info.shape), info.name
            file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
            give_back_pages(path)
        file.flush()
        os.fsync(file.fileno())
