"""Arrays in memory that JAX's CPU backend takes without a copy."""

import jax
import jax.numpy as jnp
import numpy as np

from demiurgic_jax.model.host_memory import HugePages, aligned_empty


def test_arrays_are_kept_side_by_side_and_whole():
    memory = HugePages()
    arrays = [jnp.arange(7, dtype=jnp.bfloat16), jnp.ones((3, 5)), jnp.arange(-9, 9, dtype=jnp.int8), jnp.float32(2)]
    kept = [memory.keep(array) for array in arrays]
    for array, same in zip(arrays, kept, strict=True):
        assert same.dtype == array.dtype
        np.testing.assert_array_equal(same, array)
    places = [array.unsafe_buffer_pointer() for array in kept]
    assert np.diff(places).tolist() == [64, 64, 64]


def test_what_is_larger_than_a_piece_has_one_of_its_own():
    memory = HugePages()
    large = jnp.arange(20 << 20, dtype=jnp.float32)
    kept = [memory.keep(large), memory.keep(jnp.arange(4))]
    np.testing.assert_array_equal(kept[0], large)
    np.testing.assert_array_equal(kept[1], jnp.arange(4))


def test_jax_takes_what_is_aligned_as_it_is():
    host = aligned_empty((5, 3), np.float32)
    host[...] = 1
    taken = jax.make_array_from_callback(
        host.shape, jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0]), lambda _: host
    )
    assert taken.unsafe_buffer_pointer() == host.ctypes.data
