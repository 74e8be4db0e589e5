"""Products of activations and weights in eight bits, forward and backward, by the library `qwix`."""

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


@cache
def weight_product(kind: str) -> Callable[[str, jax.Array, jax.Array], jax.Array]:
    """`product(einsum string, activations, weight)` of this kind, in the dtype of its operands.

    Each vector along the summed dimension has a scale of its own, its largest absolute value. UserError when the
    package is missing.
    """
    types = QUANTIZED_MATMULS[kind]
    if types is None:
        return jnp.einsum
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
