"""Reading GGUF: its metadata, and its tensors, dequantised to float32 where they are not stored as floats.

The header is read here rather than by the `gguf` library, whose reader makes NumPy views of every string
(two seconds for a vocabulary of 49,000) and follows a damaged length wherever it points. The library
knows the block formats and takes them apart. Format: github.com/ggml-org/ggml, docs/gguf.md.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np

from demiurgic_jax.data.files import give_back_pages
from demiurgic_jax.errors import UserError

Value = TypeVar("Value")

_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 4
# GGML types that NumPy reads as they are.
_FLOATS = {0: np.dtype(np.float32), 1: np.dtype(np.float16), 28: np.dtype(np.float64), 30: np.dtype(jnp.bfloat16)}


class _TensorPlace(NamedTuple):
    """`shape` is outermost first; GGUF writes it the other way round."""

    shape: tuple[int, ...]
    kind: int
    offset: int
    size: int


class GgufFile:
    """A GGUF file, memory-mapped. Raises UserError when it is missing, not GGUF, cut off or damaged."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"GGUF file {self.path} does not exist: give the path of a .gguf file")
        with self.path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise UserError(f"{self.path} is not a GGUF file (its first bytes are not 'GGUF'): fetch it again")
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        with self._damage_named():
            self.metadata, self._places = _read_header(content)

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (_DamageError, UnicodeDecodeError) as error:
            raise UserError(f"GGUF file {self.path} is damaged or cut off ({error}): fetch it again") from error

    def require(self, key: str, kind: type[Value]) -> Value:
        """The metadata value `key`, or UserError when it is missing or no `kind`."""
        if key not in self.metadata:
            raise UserError(f"GGUF file {self.path} has no metadata field {key!r}: it is not a complete model file")
        value = self.metadata[key]
        if not isinstance(value, kind):
            raise UserError(
                f"GGUF file {self.path}: metadata field {key!r} is no {kind.__name__}: it is damaged, fetch it again"
            )
        return value

    def get(self, key: str, default: Value) -> Value:
        """The metadata value `key`, of the type of `default`, which stands in where it is missing."""
        return self.require(key, type(default)) if key in self.metadata else default

    @property
    def tensor_names(self) -> list[str]:
        return list(self._places)

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        """Outermost dimension first ([out, in] for a matrix)."""
        return self._places[name].shape

    def tensor_dtype(self, name: str) -> np.dtype:
        """float32 for all that is quantised."""
        return _FLOATS.get(self._places[name].kind, np.dtype(np.float32))

    def tensor(self, name: str) -> np.ndarray:
        """Tensor `name`, outermost dimension first: floats as a view of the file, all else as float32."""
        place = self._places[name]
        if place.kind in _FLOATS:
            return np.memmap(self.path, _FLOATS[place.kind], "r", place.offset, place.shape)
        gguf = library()
        stored = np.memmap(self.path, np.uint8, "r", place.offset, (place.size,))
        # Rows are dequantised in groups, so that temporaries stay small.
        rows = stored.reshape(math.prod(place.shape[:-1]), -1)
        try:
            values = gguf.dequantize(rows, gguf.GGMLQuantizationType(place.kind))
        except NotImplementedError as error:
            kind = gguf.GGMLQuantizationType(place.kind).name
            raise UserError(
                f"GGUF file {self.path}: tensor {name!r} is stored as {kind}, which cannot be read: use another file"
            ) from error
        return np.asarray(values, np.float32).reshape(place.shape)

    def release(self, name: str) -> None:
        """Tensor `name` has been read: no view of it lives, and none will be asked for soon."""
        place = self._places[name]
        give_back_pages(self.path, place.offset, place.size)


def library(doing: str = "reading") -> Any:
    """The `gguf` package. UserError, naming the extra that brings it, where it is not installed."""
    try:
        import gguf
    except ImportError as error:
        raise UserError(f"{doing} GGUF needs the `gguf` package: pip install 'demiurgic_jax[gguf]'") from error
    return gguf


class _DamageError(Exception):
    """What is wrong with the bytes; GgufFile says of which file."""


def _read_header(content: memoryview) -> tuple[dict[str, Any], dict[str, _TensorPlace]]:
    cursor = _Cursor(content)
    cursor.take(4)
    version = cursor.number("<u4")
    if version not in (2, 3):
        raise _DamageError(f"version {version}, known are 2 and 3")
    tensor_count, field_count = cursor.number("<u8"), cursor.number("<u8")
    metadata: dict[str, Any] = {}
    for _ in range(field_count):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.number("<u4"))
    infos = []
    for _ in range(tensor_count):
        name, dimensions = cursor.string(), cursor.number("<u4")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise _DamageError(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(cursor.number("<u8") for _ in range(dimensions))
        infos.append((name, shape[::-1], cursor.number("<u4"), cursor.number("<u8")))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise _DamageError(f"alignment {alignment}")
    start = -(-cursor.at // alignment) * alignment
    places: dict[str, _TensorPlace] = {}
    for name, shape, kind, offset in infos:
        places[name] = _TensorPlace(shape, kind, start + offset, _stored_size(name, shape, kind))
        if places[name].offset + places[name].size > len(content):
            raise _DamageError(f"tensor {name!r} reaches past its end")
    return metadata, places


def _stored_size(name: str, shape: tuple[int, ...], kind: int) -> int:
    """Bytes of a tensor of GGML type `kind`."""
    sizes = library().GGML_QUANT_SIZES
    if kind not in sizes:
        raise _DamageError(f"tensor {name!r} is of unknown type {kind}")
    values_per_block, bytes_per_block = sizes[kind]
    if not all(shape) or shape[-1] % values_per_block:
        raise _DamageError(f"tensor {name!r} has the shape {shape}")
    return math.prod(shape) // values_per_block * bytes_per_block


class _Cursor:
    """Walks over the header; every read is checked against the end of the file."""

    def __init__(self, content: memoryview):
        self._content = content
        self.at = 0

    def take(self, size: int) -> memoryview:
        start, self.at = self.at, self.at + size
        if self.at > len(self._content):
            raise _DamageError(f"its header reaches past its {len(self._content)} bytes")
        return self._content[start : self.at]

    def number(self, kind: str) -> Any:
        return np.frombuffer(self.take(np.dtype(kind).itemsize), kind)[0].item()

    def string(self) -> str:
        (length,) = struct.unpack("<Q", self.take(8))
        return str(self.take(length), "utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            element, count = self.number("<u4"), self.number("<u8")
            if element == _STRING:
                return [self.string() for _ in range(count)]
            if element in _SCALARS:
                return np.frombuffer(
                    self.take(count * np.dtype(_SCALARS[element]).itemsize), _SCALARS[element]
                ).tolist()
            raise _DamageError(f"an array of unknown type {element}")
        if kind not in _SCALARS:
            raise _DamageError(f"a field of unknown type {kind}")
        return self.number(_SCALARS[kind])
