"""A digest is a property of the numbers, not of how they lie or in what pieces they are summed."""

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from demiurgic_jax.checkpoints import digest


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_in_pieces_whole_and_spread_an_array_has_one_digest(dtype):
    values = np.random.default_rng(0).normal(size=(6, 80, 500)).astype(dtype)
    assert values.size > 7 * digest._PIECE
    mesh = jax.make_mesh((8,), ("x",))
    spread = jax.device_put(values, NamedSharding(mesh, PartitionSpec(None, "x")))
    whole = digest.digests({"a": values})
    assert digest.digests({"a": spread}) == whole
    assert digest.digests({"a": values.reshape(-1)}) == whole
    changed = values.copy()
    changed[3, 4, 5] = -changed[3, 4, 5]
    assert digest.digests({"a": changed}) != whole
