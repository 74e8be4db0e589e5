"""Products of activations and weights, forward and backward: as a CPU's compiler likes them best, or in eight bits by
the library `qwix`."""

from collections.abc import Callable, Mapping
from functools import cache

import jax
import jax.numpy as jnp

from demiurgic_jax.errors import UserError

# Types of activations and weights, and of the gradients that come back: e5m2 has the range for these, e4m3 the digits
# for those (Micikevicius et al. 2022).
QUANTIZED_MATMULS: Mapping[str, tuple[str, str] | None] = {
    "none": None,
    "int8": ("int8", "int8"),
    "fp8": ("float8_e4m3fn", "float8_e5m2"),
}


Product = Callable[[str, jax.Array, jax.Array], jax.Array]


@cache
def weight_product(kind: str, platform: str) -> Product:
    """`product(einsum string, activations, weight)` of this kind on a platform, in the dtype of its operands.

    Each vector along the summed dimension has a scale of its own, its largest absolute value. UserError when the
    package is missing.
    """
    types = QUANTIZED_MATMULS[kind]
    if types is None:
        return of_matrices if platform == "cpu" else jnp.einsum
    try:
        import qwix
    except ImportError as error:
        raise UserError(
            f"train.quantized_matmuls={kind} needs the package qwix: pip install 'demiurgic_jax[quantized]', or set it "
            "to none"
        ) from error
    operands, gradients = types
    # A weight that was gathered and cast is no parameter to qwix any more; `act_qtype` is for all that are none.
    rule = qwix.QtRule(module_path=".*", weight_qtype=operands, act_qtype=operands, bwd_qtype=gradients)
    return qwix.QtProvider([rule]).einsum


def of_matrices(subscripts: str, x: jax.Array, weight: jax.Array) -> jax.Array:
    """x [B, S, *inputs] · weight [*inputs, *outputs] → [B, S, *outputs], as a product of two matrices.

    Of higher rank, XLA's CPU compiler transposes activations in memory for the gradient of the weight, and multiplies
    at half its speed then.
    """
    rows = x.reshape(x.shape[0] * x.shape[1], -1)
    multiply = _in_bfloat16 if x.dtype == weight.dtype == jnp.bfloat16 else jnp.matmul
    product = multiply(rows, weight.reshape(rows.shape[1], -1))
    return product.reshape(*x.shape[:2], *weight.shape[x.ndim - 2 :])


@jax.custom_vjp
def _in_bfloat16(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x [N, I] · weight [I, O]. Rounded after a sum in float32: XLA's CPU compiler has the CPU's own bfloat16 products
    only for that, and emulates others, which takes five times as long."""
    return jnp.dot(x, weight, preferred_element_type=jnp.float32).astype(jnp.bfloat16)


def _in_bfloat16_backward(operands: tuple[jax.Array, jax.Array], d_product: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = operands
    # And only where the summed dimension is the last of the first: the barrier keeps the transposition out of the dot.
    return _in_bfloat16(d_product, weight.T), _in_bfloat16(jax.lax.optimization_barrier(x.T), d_product)


_in_bfloat16.defvjp(lambda x, weight: (_in_bfloat16(x, weight), (x, weight)), _in_bfloat16_backward)
