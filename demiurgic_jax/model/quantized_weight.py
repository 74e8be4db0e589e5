"""A weight kept in eight bits: half the memory of bfloat16, for networks that are run and not trained."""

from collections.abc import Callable, Sequence
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


class Int8Matrix(NamedTuple):
    """A matrix [out, in] that is multiplied as eight bits: values · scales, a scale for each row."""

    values: Any  # int8 [out, in]
    scales: Any  # float32 [out]

    def rows(self, index: jax.Array) -> jax.Array:
        """Rows of the matrix, [..., in] in float32."""
        return self.values[index].astype(jnp.float32) * self.scales[index][..., None]


# XLA hands products of integers with fewer rows to a slow loop on CPUs.
FEWEST_ROWS = 8


def quantize_rows(matrix: jax.Array) -> Int8Matrix:
    """The nearest matrix of eight bits."""
    rounded = quantize(np.asarray(matrix, np.float32), (1,))
    return Int8Matrix(jnp.asarray(rounded.values), jnp.asarray(rounded.scales[:, 0]))


def int8_product(x: jax.Array, matrices: Sequence[Int8Matrix], layer: Any) -> jax.Array:
    """x [..., in] times the layer's matrix, [..., out] in float32.

    Converting the matrix to floats first would write them to memory and read them again, which costs more than eight
    bits save. So the activations become integers as well, of two digits in base 254: fifteen bits of the largest of
    their row, which is finer than bfloat16. Each digit's product is exact; what is rounded are the weights.
    """
    x_MI = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    M = x_MI.shape[0]
    largest_M1 = jnp.max(jnp.abs(x_MI), axis=-1, keepdims=True)
    unit_M1 = jnp.where(largest_M1 > 0, largest_M1 / 127, 1)
    high_MI = jnp.rint(x_MI / unit_M1)
    low_MI = jnp.rint((x_MI / unit_M1 - high_MI) * 254)
    digits = jnp.concatenate([high_MI, low_MI]).astype(jnp.int8)
    digits = jnp.pad(digits, ((0, max(0, FEWEST_ROWS - 2 * M)), (0, 0)))

    def by(matrix: Int8Matrix) -> Callable[[jax.Array], jax.Array]:
        def exact(digits: jax.Array) -> jax.Array:
            y = jnp.einsum("mi,oi->mo", digits, matrix.values, preferred_element_type=jnp.int32).astype(jnp.float32)
            return y * matrix.scales

        return exact

    y = choose_layer([by(matrix) for matrix in matrices], layer, digits)
    return ((y[:M] + y[M : 2 * M] / 254) * unit_M1).reshape(*x.shape[:-1], -1)


def choose_layer(products: Sequence[Callable[[jax.Array], jax.Array]], layer: Any, x: jax.Array) -> jax.Array:
    """What the product of number `layer`, a whole number or a value of the program, makes of x."""
    return products[layer](x) if isinstance(layer, int) else jax.lax.switch(layer, products, x)
