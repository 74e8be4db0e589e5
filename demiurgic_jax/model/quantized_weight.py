"""A weight kept in eight bits: half the memory of bfloat16, for networks that are run and not trained."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# The stacked weights of the layers by the dimensions over which a product with them sums; norms and biases stay as
# they are, and so do the embeddings, whose rounding every logit would show.
SUMMED = {"wq": (1,), "wk": (1,), "wv": (1,), "wo": (1, 2), "w_gate": (1,), "w_up": (1,), "w_down": (1,)}


class Int8Weight(NamedTuple):
    """values · scales, a scale for each output channel of each layer. Looks to the decoder like the array it stands
    for: `astype` is all that it asks of a weight."""

    values: Any  # int8
    scales: Any  # float32, of the same rank, 1 along the summed dimensions

    def astype(self, dtype: Any) -> jax.Array:
        return (self.values.astype(jnp.float32) * self.scales).astype(dtype)


def quantize(weight: np.ndarray, summed: tuple[int, ...]) -> Int8Weight:
    """The nearest of 255 values between ± the largest absolute value along the `summed` dimensions."""
    weight = np.asarray(weight, np.float32)
    largest = np.max(np.abs(weight), axis=summed, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return Int8Weight(np.rint(weight / scales).astype(np.int8), scales)
