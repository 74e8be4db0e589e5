"""Attention by the kernels of TPUs and GPUs: the same mathematics as `attention`, without [S, T] arrays in memory.

Shape suffixes: B batch, S queries, T keys, H query heads, K key-value heads, D head dim.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demiurgic_jax.errors import UserError

# Queries and keys of one step of the TPU kernel, at most, unless a config says otherwise.
SPLASH_BLOCK = 1024
# What a remat policy can keep of the kernel, its output and log-sum-exp, so that a backward pass need not run it again.
KERNEL_RESIDUALS = "attention_kernel"


def splash_attention(
    q_BSHD: jax.Array,
    k_BTKD: jax.Array,
    v_BTKD: jax.Array,
    segment_ids_BS: jax.Array,
    key_segment_ids_BT: jax.Array,
    *,
    query_start: int = 0,
    block: int = SPLASH_BLOCK,
    interpret: bool = False,
) -> jax.Array:
    """Pallas splash attention on a TPU. Query s stands in row `query_start` + s of the keys and sees those up to there,
    of its own segment. Returns [B, S, H, D].

    One step of the kernel takes `block` queries and keys, or the largest power of two that divides a row. UserError
    unless S and T are multiples of 128. `interpret` runs the kernel on a CPU, for tests.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    _, S, H, D = q_BSHD.shape
    if S % 128:
        raise UserError(
            f"attention on a TPU takes rows of multiples of 128 tokens a device, not {S}: change the context"
        )
    kernel = _splash_kernel(S, k_BTKD.shape[1], H, query_start, block, interpret)
    q_BHSD = (q_BSHD * D**-0.5).swapaxes(1, 2)
    segments = SegmentIds(segment_ids_BS, key_segment_ids_BT)
    mixed_BHSD = jax.vmap(kernel)(q_BHSD, k_BTKD.swapaxes(1, 2), v_BTKD.swapaxes(1, 2), segments)
    return mixed_BHSD.swapaxes(1, 2)


@lru_cache(maxsize=64)
def _splash_kernel(S: int, T: int, H: int, query_start: int, block: int, interpret: bool) -> Any:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    q, kv = (min(block, size & -size) for size in (S, T))
    # Two kernels on the way back, not the fused one: that writes a partial gradient of the queries for every block of
    # keys, four times their bytes, and adding these up took 7 % of a v6e's step.
    blocks = splash.BlockSizes(
        block_q=q,
        block_kv=kv,
        block_q_dkv=q,
        block_kv_dkv=kv,
        block_kv_dkv_compute=kv,
        block_q_dq=q,
        block_kv_dq=kv,
    )
    mask = splash.MultiHeadMask([splash.CausalMask((S, T), offset=query_start)] * H)
    # The mask's arrays are made outside of any trace: a cached kernel must not hold values of one.
    with jax.ensure_compile_time_eval():
        return splash.make_splash_mha_single_device(
            mask, block_sizes=blocks, residual_checkpoint_name=KERNEL_RESIDUALS, interpret=interpret
        )


def cudnn_attention(
    q_BSHD: jax.Array,
    k_BTKD: jax.Array,
    v_BTKD: jax.Array,
    segment_ids_BS: jax.Array,
    key_segment_ids_BT: jax.Array,
    *,
    query_start: int = 0,
) -> jax.Array:
    """cuDNN's fused attention on an NVIDIA GPU (compute capability 8.0 on, 16-bit inputs). Same contract as
    `splash_attention`; segments go in as a boolean mask [B, 1, S, T]."""
    S, T = q_BSHD.shape[1], k_BTKD.shape[1]
    rows = query_start + np.arange(S)
    mask_BST = (segment_ids_BS[:, :, None] == key_segment_ids_BT[:, None, :]) & (rows[:, None] >= np.arange(T))
    return jax.nn.dot_product_attention(
        q_BSHD, k_BTKD, v_BTKD, mask=jnp.expand_dims(mask_BST, 1), implementation="cudnn"
    )
