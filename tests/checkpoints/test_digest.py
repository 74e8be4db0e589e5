"""A digest is a property of the numbers, not of how they lie or in what pieces they are summed."""

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from demiurgic_jax.checkpoints import digest


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(6, 80, 500), (6, 80, 9000)])
def test_in_pieces_whole_and_spread_an_array_has_one_digest(dtype, shape):
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    # The smaller is summed in pieces, the greater in blocks and what is left over in pieces.
    assert values.size > 7 * digest._PIECE
    assert (values.size > 2 * digest._BLOCK) == (shape[-1] == 9000)
    mesh = jax.make_mesh((8,), ("x",))
    spread = jax.device_put(values, NamedSharding(mesh, PartitionSpec(None, "x")))
    whole = digest.digests({"a": values})
    assert digest.digests({"a": spread}) == whole
    assert digest.digests({"a": values.reshape(-1)}) == whole
    changed = values.copy()
    changed[3, 4, 5] = -changed[3, 4, 5]
    assert digest.digests({"a": changed}) != whole


def test_the_digests_of_its_parts_add_up_to_the_digest_of_an_array():
    values = np.random.default_rng(0).normal(size=(5, 3, 300_000)).astype(np.float32)
    parts = ((0, 3), (3, 4), (4, 5))
    sums = [digest.digest_of_part(values[start:stop], start * 900_000) for start, stop in parts]
    assert sum(sums) % 2**32 == digest.digests({"a": values})["['a']"]
    assert digest.digest_of_part(values[3:4], 4 * 900_000) != sums[1]
