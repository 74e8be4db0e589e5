"""Reads a network out of somebody else's tensors, one after the other, straight to where it is to lie."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from demiurgic_jax.checkpoints.unread import UnreadArray
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.families import Family
from demiurgic_jax.interop.layout import Form, Index, Place, bounded, fill_from_stored, places, whole
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.host_memory import aligned_empty
from demiurgic_jax.model.parameters import at_path

Progress = Callable[[int, int], None]
Shardings = Callable[[ModelConfig], Any]

_PIECES = 16


class StoredTensors(Protocol):
    """A file or folder of named tensors, memory-mapped."""

    path: Path

    @property
    def tensor_names(self) -> list[str]: ...

    def tensor_shape(self, name: str) -> tuple[int, ...]: ...

    def tensor_dtype(self, name: str) -> np.dtype:
        """Of what `tensor` gives. UserError for numbers that are no floats."""
        ...

    def tensor(self, name: str) -> np.ndarray:
        """A view of the file where it can be: let it go soon, its pages count as memory of this process."""
        ...

    def release(self, name: str) -> None:
        """A tensor has been read: no view of it lives, and none will be asked for soon."""
        ...


def read_parameters(
    config: ModelConfig,
    stored: StoredTensors,
    family: Family,
    form: Form,
    *,
    dtype: Any = np.float32,
    shardings: Shardings | None = None,
    unneeded: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The parameters of `config`, read tensor by tensor.

    With `shardings`, they are jax.Arrays that lie as the tree `shardings(config)` says, and each process reads no more
    than its devices hold; else host arrays. `dtype` None: each as it is stored, float32 where it is quantised.
    `progress` is called with the bytes done and in all. UserError names the first tensor that is missing, of another
    shape, or has no place in this network (unless its name ends in one of `unneeded`).
    """

    laid = shardings and shardings(config)

    def made(place: Place, _: np.dtype, read: Callable[[Index], np.ndarray]) -> Any:
        if laid is None:
            return read(whole(place.shape))
        return jax.make_array_from_callback(place.shape, at_path(place.path, laid), _once(read, place.shape))

    return _parameters(config, stored, family, form, dtype, unneeded, progress, made)


def unread_parameters(
    config: ModelConfig,
    stored: StoredTensors,
    family: Family,
    form: Form,
    *,
    dtype: Any = None,
    unneeded: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The same as UnreadArrays: a tensor's numbers are read when its parameter is to be written."""

    def made(place: Place, taken: np.dtype, read: Callable[[Index], np.ndarray]) -> UnreadArray:
        return UnreadArray(place.shape, taken, partial(read, whole(place.shape)))

    return _parameters(config, stored, family, form, dtype, unneeded, progress, made)


def _parameters(
    config: ModelConfig,
    stored: StoredTensors,
    family: Family,
    form: Form,
    dtype: Any,
    unneeded: tuple[str, ...],
    progress: Progress | None,
    made: Callable[[Place, np.dtype, Callable[[Index], np.ndarray]], Any],
) -> dict[str, Any]:
    """`made` of each parameter's place, dtype and what reads a part of it, as the tree of `config`."""
    found = places(config, family, form)
    _require_tensors(config, stored, found, unneeded)
    total = sum(_bytes(stored, place) for place in found)
    params: dict[str, Any] = {"layers": {}}
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    # The largest first: while a part is on its way from host to device it is there twice.
    for place in sorted(found, key=lambda place: -np.prod(place.shape, dtype=np.int64)):
        taken = _dtype(stored, place) if dtype is None else np.dtype(dtype)
        read = partial(_read, stored, place, taken, _pairs(family, form, place), _adds(form, place), advance)
        *above, last = place.path
        at_path(above, params)[last] = made(place, taken, read)
    return params


def _once(read: Callable[[Index], np.ndarray], shape: tuple[int, ...]) -> Callable[[Any], np.ndarray]:
    """`read`, where several devices hold the same part of one parameter."""
    parts: dict[tuple[tuple[int, int], ...], np.ndarray] = {}

    def part(index: Index) -> np.ndarray:
        key = tuple((along.start, along.stop) for along in bounded(index, shape))
        if key not in parts:
            parts[key] = read(index)
        return parts[key]

    return part


def _read(
    stored: StoredTensors,
    place: Place,
    dtype: np.dtype,
    pairs: bool,
    adds: float,
    advance: Callable[[int], None],
    index: Index,
) -> np.ndarray:
    index = bounded(index, place.shape)
    out = aligned_empty(tuple(part.stop - part.start for part in index), dtype)
    at_once = out[0].shape == place.layer_shape if place.stacked else out.shape == place.shape

    parts = list(_layers(place, index, out) if place.stacked else _pieces(place, index, out))
    # A quantised one is not taken apart anew for each of its pieces.
    shared = {} if place.stacked else {place.names[0]: stored.tensor(place.names[0])}

    def fill(part: _Part) -> int:
        tensor = shared[part.name] if part.name in shared else stored.tensor(part.name)
        fill_from_stored(part.out, tensor, place, part.inside, pairs, adds)
        return part.out.size * tensor.itemsize

    # One on each core: NumPy lets others run while it copies.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, size in zip(parts, pool.map(fill, parts), strict=True):
            advance(size)
            # What other devices hold of it is still to be read, unless this was all.
            if part.last and at_once:
                shared.pop(part.name, None)
                stored.release(part.name)
    return out


class _Part(NamedTuple):
    """What is read of one tensor at a time: what lies `inside` goes into `out`; the last of that tensor, or not."""

    name: str
    inside: Index
    out: np.ndarray
    last: bool


def _layers(place: Place, index: Index, out: np.ndarray) -> Iterator[_Part]:
    for row, layer in enumerate(range(index[0].start, index[0].stop)):
        yield _Part(place.names[layer], index[1:], out[row], True)


def _pieces(place: Place, index: Index, out: np.ndarray) -> Iterator[_Part]:
    """A matrix that is not one of a layer's, as large as several of them: in rows of what is stored."""
    axis = place.row.reads
    start, size = index[axis].start, out.shape[axis]
    ends = [size * count // _PIECES for count in range(_PIECES + 1)] if size >= _PIECES else [0, size]
    for begin, end in itertools.pairwise(ends):
        inside = (*index[:axis], slice(start + begin, start + end), *index[axis + 1 :])
        part = out[(slice(None),) * axis + (slice(begin, end),)]
        yield _Part(place.names[0], inside, part, end == size)


def _pairs(family: Family, form: Form, place: Place) -> bool:
    return form == "gguf" and family.rotary_pairs and place.row.rotary


def _adds(form: Form, place: Place) -> float:
    return place.row.gguf_adds if form == "gguf" else 0.0


def _dtype(stored: StoredTensors, place: Place) -> np.dtype:
    """What holds the numbers of all its layers."""
    kinds = {stored.tensor_dtype(name) for name in place.names}
    return kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)


def _bytes(stored: StoredTensors, place: Place) -> int:
    return sum(
        int(np.prod(place.stored_shape, dtype=np.int64)) * stored.tensor_dtype(name).itemsize for name in place.names
    )


def _require_tensors(config: ModelConfig, stored: StoredTensors, found: list[Place], unneeded: tuple[str, ...]) -> None:
    present, used = set(stored.tensor_names), set()
    # Layer by layer, so that an absurd number of layers ends at the first one missing.
    for layer in range(config.num_layers):
        for place in found:
            if layer and not place.stacked:
                continue
            name = place.names[layer]
            if name not in present:
                raise UserError(
                    f"{stored.path} has no tensor {name!r}: it is not a complete model{_like(name, present)}"
                )
            if (shape := stored.tensor_shape(name)) != place.stored_shape:
                raise UserError(
                    f"{stored.path} has tensor {name!r} of shape {shape}, its metadata wants {place.stored_shape}: "
                    "weights and metadata do not belong together"
                )
            stored.tensor_dtype(name)
            used.add(name)
    if extra := sorted(name for name in present - used if not name.endswith(unneeded)):
        raise UserError(
            f"{stored.path} has tensor {extra[0]!r}, which has no place in a network of its metadata's shape: "
            "this variant cannot be imported"
        )


def _like(name: str, present: set[str]) -> str:
    """Where a tensor of nearly that name is there, which one."""
    tail = name.removeprefix("model.")
    near = next((other for other in sorted(present) if other.endswith(tail) or name.endswith(other)), None)
    return f" (there is {near!r}: is it misnamed?)" if near else ""
