"""What JAX itself says of a training step before any compiler has seen it: its FLOPs, and what it keeps to go back.

Both are read off JAX's trace of a pass forward and backward, so every remat policy is known without a table of them.
"""

import dataclasses
import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core

from demiurgic_jax.model.attention_kernels import KERNEL_RESIDUALS
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.model.layout import Layout
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.planning.ahead_of_time import abstract_batch
from demiurgic_jax.training.config import COMPUTE_DTYPES, TrainConfig
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.step import Batch, loss_sums

# Shape suffixes: B batch, S sequence, T half the keys, H heads, K kv heads, D head dim.


@dataclasses.dataclass(frozen=True)
class Trace:
    """A pass forward and backward over one row, as JAX would run it, recomputation included; n rows take n times that.

    `attention_flops` are those of attention's causal half, `matmul_flops` of all other matrix products; `kept_bytes`
    is what the backward pass finds of the forward pass on the device, without parameters, `host_bytes` what it finds in
    the host's memory.
    """

    matmul_flops: int
    attention_flops: int
    kept_bytes: int
    host_bytes: int


def trace_row(train: TrainConfig, model: ModelConfig) -> Trace:
    """Traces a pass over a row of `train.context` tokens: a second or two, whatever the size of the model."""
    return _trace(train.context, train.soft_targets, train.compute_dtype, train.remat, train.loss, model)


# By what changes the pass, so that one trace serves all steps that share it.
@lru_cache(maxsize=256)
def _trace(
    context: int, soft_targets: int, compute_dtype: str, remat: str, loss_config: LossConfig, model: ModelConfig
) -> Trace:
    train = TrainConfig(1, 1, context, soft_targets=soft_targets)
    decoder = Decoder(
        model,
        compute_dtype=COMPUTE_DTYPES[compute_dtype],
        remat=remat,
        layout=Layout(attend=_fused_attention),
    )
    params = abstract_parameters(model)

    def loss(params: Any, batch: Batch) -> jax.Array:
        return loss_sums(decoder, params, batch, loss_config).loss

    def kept(rows: int) -> tuple[int, int]:
        """Bytes on the device, and in the host's memory."""
        batch = abstract_batch(dataclasses.replace(train, batch_size=rows), None)
        backward = jax.make_jaxpr(lambda p, b: jax.tree.leaves(jax.vjp(lambda p: loss(p, b), p)[1]))(params, batch)
        away = [aval for aval in backward.out_avals if aval.memory_space == jax.memory.Space.Host]
        return tree_bytes(backward.out_avals) - tree_bytes(away), tree_bytes(away)

    program = jax.make_jaxpr(jax.grad(loss))(params, abstract_batch(train, None))
    matmul_flops, attention_flops = _dot_flops(program.jaxpr)
    # The difference leaves out weights, which are kept once however many rows there are.
    on_device, on_host = (two - one for two, one in zip(kept(2), kept(1), strict=True))
    return Trace(matmul_flops, attention_flops, on_device, on_host)


def _dot_flops(program: core.Jaxpr) -> tuple[int, int]:
    """2 FLOPs a multiply-add of every dot product, scans counted by their length: those of weights, and those with
    batch dimensions (attention's, one product for each row and head)."""
    weights = batched = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), (batch, _) = equation.params["dimension_numbers"]
            left: Any = equation.invars[0].aval
            out: Any = equation.outvars[0].aval
            flops = 2 * math.prod(out.shape) * math.prod(left.shape[axis] for axis in contracted)
            weights, batched = (weights, batched + flops) if batch else (weights + flops, batched)
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(inner):
                more = _dot_flops(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner)
                weights, batched = weights + turns * more[0], batched + turns * more[1]
    return weights, batched


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree, abstract ones too."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _is_program(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


# Stands for the kernels of TPUs and GPUs: the FLOPs of the causal half (every query sees half the keys), and kept for
# the backward pass what they keep: q, k, v, the output and a log-sum-exp per query and head.
@jax.custom_vjp
def _fused_attention(q_BSHD: jax.Array, k_BSKD: jax.Array, v_BSKD: jax.Array, segment_ids_BS: jax.Array) -> jax.Array:
    return _forward(q_BSHD, k_BSKD, v_BSKD, segment_ids_BS)[0]


def _forward(q_BSHD: jax.Array, k_BSKD: jax.Array, v_BSKD: jax.Array, segment_ids_BS: jax.Array) -> Any:
    k_BTHD, v_BTHD = (_half(x, q_BSHD.shape[2]) for x in (k_BSKD, v_BSKD))
    scores_BHST = jnp.einsum("bshd,bthd->bhst", q_BSHD, k_BTHD)
    mixed_BSHD = jnp.einsum("bhst,bthd->bshd", scores_BHST, v_BTHD)
    named = [checkpoint_name(x, KERNEL_RESIDUALS) for x in (mixed_BSHD, jnp.sum(scores_BHST, -1))]
    return named[0], (q_BSHD, k_BSKD, v_BSKD, *named)


def _backward(kept: Any, d_mixed_BSHD: jax.Array) -> Any:
    q_BSHD, k_BSKD, v_BSKD, mixed_BSHD, sums_BHS = kept
    k_BTHD, v_BTHD = (_half(x, q_BSHD.shape[2]) for x in (k_BSKD, v_BSKD))
    # The scores again, then a product each for the gradients of scores, v, q and k.
    scores_BHST = jnp.einsum("bshd,bthd->bhst", q_BSHD + mixed_BSHD, k_BTHD) + sums_BHS[..., None]
    d_scores_BHST = jnp.einsum("bshd,bthd->bhst", d_mixed_BSHD, v_BTHD)
    d_v_BTHD = jnp.einsum("bhst,bshd->bthd", scores_BHST, d_mixed_BSHD)
    d_q_BSHD = jnp.einsum("bhst,bthd->bshd", d_scores_BHST, k_BTHD)
    d_k_BTHD = jnp.einsum("bhst,bshd->bthd", d_scores_BHST, q_BSHD)
    return d_q_BSHD, _whole(d_k_BTHD, k_BSKD), _whole(d_v_BTHD, v_BSKD), None


_fused_attention.defvjp(_forward, _backward)


def _half(x_BSKD: jax.Array, heads: int) -> jax.Array:
    S, K = x_BSKD.shape[1:3]
    return jnp.repeat(x_BSKD[:, : S // 2], heads // K, axis=2)


def _whole(d_x_BTHD: jax.Array, like_BSKD: jax.Array) -> jax.Array:
    B, S, K, D = like_BSKD.shape
    summed = jnp.sum(d_x_BTHD.reshape(B, S // 2, K, -1, D), axis=3)
    return jnp.concatenate([summed, summed], axis=1).astype(like_BSKD.dtype)
