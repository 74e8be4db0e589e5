"""Digests of arrays as the devices hold them.

Neither Orbax nor the formats under it notice a flipped bit in an array. A digest taken before a checkpoint is written
and compared after it is read holds for the whole way, on any mesh and any number of processes: it is a sum of
integers, so it does not depend on how the array is cut, and nothing has to be read again.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_STRIDE = 0x9E3779B1
# So many numbers and what is computed of them lie in a core's own cache.
_PIECE = 1 << 15
_STRIDES = np.arange(_PIECE, dtype=np.uint32) * np.uint32(_STRIDE)
# A block is worth a call into XLA. There a step of its loop takes so many rows of so many numbers.
_BLOCK, _ROWS, _LANES = 1 << 21, 16, 2048


def by_path(tree: Any) -> dict[str, Any]:
    """Leaves by path. Optimizer states are nested tuples of named tuples, whose classes may change from
    one optax to the next; paths and arrays are what a checkpoint promises to keep."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def digests(tree: Any) -> dict[str, int]:
    """A number of 32 bits for every array (device or host) of the tree, by its path.

    Any change of a single element changes it; of several it goes unnoticed once in 2^32. Equal arrays have equal
    digests, whatever their layout over devices; the dtype counts.
    """
    cpu = jax.local_devices(backend="cpu")[0]
    found: dict[str, int] = {}
    groups: dict[frozenset[jax.Device], dict[str, jax.Array]] = {}
    for name, leaf in by_path(tree).items():
        on_host = not isinstance(leaf, jax.Array) or leaf.sharding.device_set == {cpu}
        if on_host and leaf.size > _PIECE:
            found[name] = digest_on_host(np.asarray(leaf))
            continue
        leaf = leaf if isinstance(leaf, jax.Array) else jax.device_put(np.asarray(leaf), cpu)
        groups.setdefault(frozenset(leaf.sharding.device_set), {})[name] = leaf
    for group in groups.values():
        found |= {name: int(value) for name, value in jax.device_get(_sums(group)).items()}
    return {name: found[name] for name in by_path(tree)}


def first_difference(found: Mapping[str, int], wanted: Mapping[str, int]) -> str | None:
    """The path of the first array whose digest is not the wanted one, or None."""
    return next((name for name in found if found[name] != wanted.get(name)), None)


@jax.jit
def _sums(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: _sum(leaf) for name, leaf in leaves.items()}


def digest_of_part(part: np.ndarray, first: int) -> int:
    """What a part of an array on the host adds to the digest of it, modulo 2^32: the numbers of `part`, in C order,
    are those of the array from the `first` on. Parts that make up the array add up to its digest."""
    words = part.reshape(-1).view(f"u{part.itemsize}")
    in_blocks = words.size // _BLOCK * _BLOCK
    total = 0
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        for start in range(0, in_blocks, _BLOCK):
            total += int(_sum_of_block(words[start : start + _BLOCK], np.uint32((first + start) % 2**32)))
    for start in range(in_blocks, words.size, _PIECE):
        total += _sum_of_piece(words[start : start + _PIECE], first + start)
    return total % 2**32


def digest_on_host(x: np.ndarray) -> int:
    """The digest of one array on the host, on all cores, in no memory of its own."""
    flat = x.reshape(-1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(0, flat.size, _BLOCK)
        return sum(pool.map(lambda start: digest_of_part(flat[start : start + _BLOCK], start), starts)) % 2**32


@jax.jit
def _sum_of_block(words: jax.Array, first: jax.Array) -> jax.Array:
    """What `_sum` says of the words [_BLOCK] that begin with number `first`.

    Written as a loop: of a sum over all of them XLA's CPU compiler writes out every number before it adds it, which
    takes two to four times their memory and fifteen times the work.
    """
    rows = words.reshape(-1, _LANES)
    lanes = jax.lax.iota(jnp.uint32, _LANES) * jnp.uint32(_STRIDE)

    def add(step: jax.Array, sums: jax.Array) -> jax.Array:
        block = jax.lax.dynamic_slice_in_dim(rows, step * _ROWS, _ROWS)
        begin = (first + step.astype(jnp.uint32) * jnp.uint32(_ROWS * _LANES)) * jnp.uint32(_STRIDE)
        for row in range(_ROWS):
            ahead = jnp.uint32(row * _LANES * _STRIDE % 2**32)
            sums = sums + _mixed(block[row].astype(jnp.uint32) + (lanes + (begin + ahead)))
        return sums

    steps = rows.shape[0] // _ROWS
    return jnp.sum(jax.lax.fori_loop(0, steps, add, jnp.zeros(_LANES, jnp.uint32)), dtype=jnp.uint32)


def _sum_of_piece(words: np.ndarray, first: int) -> int:
    """The same of some words, at most _PIECE of them, in NumPy: there is nothing to compile."""
    mixed = _STRIDES[: words.size] + np.uint32(first * _STRIDE % 2**32)
    mixed += words.astype(np.uint32, copy=False)
    shifted = mixed >> 16
    for shift, factor in ((13, 0x85EBCA6B), (16, 0xC2B2AE35)):
        mixed ^= shifted
        mixed *= np.uint32(factor)
        np.right_shift(mixed, shift, out=shifted)
    mixed ^= shifted
    return int(mixed.sum(dtype=np.uint64))


def _sum(x: jax.Array) -> jax.Array:
    """Sum modulo 2^32 of mixed(bits of element i + i · odd constant): one to one in the bits of each element."""
    word = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(x, word).astype(jnp.uint32)
    index = jnp.uint32(0)
    for axis, size in enumerate(x.shape):
        index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    return jnp.sum(_mixed(bits + index * jnp.uint32(_STRIDE)), dtype=jnp.uint32)


def _mixed(x: jax.Array) -> jax.Array:
    """MurmurHash3's finalizer (Appleby 2008), uint32 to uint32, one to one."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
