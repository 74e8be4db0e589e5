"""Between tensors as others store them and the parameters of a network of ours, row by row of a family's table."""

import math
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.families import Family, Row
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.parameters import parameter_specs

Form = Literal["huggingface", "gguf"]
Index = tuple[slice, ...]

# A block of so many rows and columns lies in a core's own cache. In it the rows begin at odd places: powers of two
# apart, as they are in the matrix, the numbers of a column would share a few lines of the cache.
_ROWS, _COLUMNS, _APART = 512, 256, 32


class Place(NamedTuple):
    """A parameter of ours and the tensors it is made from: one, or one for each layer.

    `path` is the way through the tree of parameters; `shape` that of all of it, layers included.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    row: Row
    names: tuple[str, ...]

    @property
    def stacked(self) -> bool:
        return self.path[0] == "layers"

    @property
    def layer_shape(self) -> tuple[int, ...]:
        """Our shape of what one stored tensor holds."""
        return self.shape[1:] if self.stacked else self.shape

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """[out, in] for a matrix, [n] for a gain or bias."""
        shape, reads = self.layer_shape, self.row.reads
        if reads:
            return math.prod(shape[reads:]), math.prod(shape[:reads])
        return (math.prod(shape),) if self.stacked else shape


def places(config: ModelConfig, family: Family, form: Form) -> list[Place]:
    """Every parameter of the network in the order of the family's table."""
    specs = parameter_specs(config)
    layers = specs.pop("layers")
    found = []
    for row in family.rows:
        name = getattr(row, form)
        if row.ours in layers:
            names = tuple(name.format(layer) for layer in range(config.num_layers))
            found.append(Place(("layers", row.ours), layers[row.ours].shape, row, names))
        elif row.ours in specs:
            found.append(Place((row.ours,), specs[row.ours].shape, row, (name,)))
    missing = {*specs, *layers} - {place.path[-1] for place in found}
    assert not missing, f"the table of {family.name} has no row for {missing}"
    return found


def fill_from_stored(out: np.ndarray, stored: np.ndarray, place: Place, index: Index, pairs: bool, adds: float) -> None:
    """Writes the part `index` of one layer of `place` into `out`, which has its shape.

    `stored` has `place.stored_shape`. `pairs`: the channels of a rotated pair lie side by side in it. `adds`: what its
    values are greater by.
    """
    shape, reads = place.layer_shape, place.row.reads
    if adds:
        stored = np.asarray(stored, np.float32) - np.float32(adds)
    if not reads:
        out[...] = stored.reshape(shape)[index].astype(out.dtype, copy=False)
        return
    if pairs:
        stored = _halves_apart(stored, shape[1])
    part = stored.reshape(*shape[reads:], *shape[:reads])[(*index[reads:], *index[:reads])]
    rows = math.prod(out.shape[reads:])
    _transpose_into(out.reshape(-1, rows), part.reshape(rows, -1))


def stored_from_ours(value: np.ndarray, place: Place, dtype: Any, pairs: bool, adds: float) -> np.ndarray:
    """One layer of `place` (all of it where it is not stacked) as [out, in] or [n] of `dtype`."""
    if adds:
        value = np.asarray(value, np.float32) + np.float32(adds)
    if not place.row.reads:
        return np.ascontiguousarray(value.reshape(place.stored_shape).astype(dtype, copy=False))
    out = np.empty(place.stored_shape, dtype)
    _transpose_into(out, np.ascontiguousarray(value).reshape(out.shape[::-1]))
    return _side_by_side(out, place.layer_shape[1]) if pairs else out


def _transpose_into(out: np.ndarray, matrix: np.ndarray) -> None:
    """out[...] = matrix.T, cast to the dtype of `out`."""
    if out.dtype == matrix.dtype and out.itemsize == 2:
        # Numbers that NumPy does not know it would copy one by one.
        out, matrix = out.view(np.uint16), matrix.view(np.uint16)
    block = np.empty((_ROWS, _COLUMNS + _APART), out.dtype)
    for top in range(0, matrix.shape[0], _ROWS):
        for left in range(0, matrix.shape[1], _COLUMNS):
            part = matrix[top : top + _ROWS, left : left + _COLUMNS]
            inside = block[: part.shape[0], : part.shape[1]]
            inside[...] = part
            out[left : left + _COLUMNS, top : top + _ROWS] = inside.T


def _halves_apart(rows: np.ndarray, heads: int) -> np.ndarray:
    """[heads · D, E] with the pairs (2i, 2i + 1) of channels to one with the pairs (i, i + D/2)."""
    out, embed = rows.shape
    return rows.reshape(heads, out // heads // 2, 2, embed).swapaxes(1, 2).reshape(out, embed)


def _side_by_side(rows: np.ndarray, heads: int) -> np.ndarray:
    """The other way round."""
    out, embed = rows.shape
    return rows.reshape(heads, 2, out // heads // 2, embed).swapaxes(1, 2).reshape(out, embed)


def narrowed(value: np.ndarray, dtype: Any, name: str) -> np.ndarray:
    """`value` as `dtype`. UserError naming the tensor when a number would become infinite."""
    with np.errstate(over="ignore"):
        cast = value.astype(dtype, copy=False)
    if cast.dtype.itemsize < value.dtype.itemsize and cast.dtype == np.float16 and not np.isfinite(cast).all():
        raise UserError(f"tensor {name!r} has numbers that float16 cannot hold: choose bfloat16 or float32")
    return cast


def whole(shape: tuple[int, ...]) -> Index:
    """The index of all of an array."""
    return tuple(slice(0, size) for size in shape)


def bounded(index: Index, shape: tuple[int, ...]) -> Index:
    """`index` with its ends as numbers."""
    return tuple(slice(*part.indices(size)) for part, size in zip(index, shape, strict=True))


DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(jnp.bfloat16)}
