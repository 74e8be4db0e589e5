"""The network as it writes text: the decoder's mathematics over weights laid out for being read once a token.

A decoding step does little arithmetic and reads every weight. So weights that meet the same activations lie in one
array (query, key and value; gate and up), they may be kept in eight bits, and each layer's matrices are arrays of their
own: a slice of stacked ones is a copy on a CPU. `Decoder` stays the definition: tests hold the two together.

Shape suffixes: B rows, S tokens of a row, H heads, K kv heads, G = H / K, D head dim, E embed, F mlp, V vocab,
L layers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from demiurgic_jax.model.attention import rotary_tables, rotate
from demiurgic_jax.model.cache import SlotCache, attend
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import normalized, rms_norm, unembedding
from demiurgic_jax.model.parameters import layer_specs
from demiurgic_jax.model.quantized_weight import Int8Matrix, choose_layer, int8_product, quantize_rows

MATRICES = ("wqkv", "wo", "w_up", "w_down")


def decoding_weights(
    config: ModelConfig,
    params: Any,
    dtype: Any,
    *,
    int8: bool = False,
    keep: Callable[[jax.Array], jax.Array] | None = None,
) -> dict[str, Any]:
    """`params` of the Decoder, laid out anew in `dtype`: a pure function of them.

    Matrices are [out, in], in which order a CPU multiplies a few rows with them a third faster than in the other. With
    `int8` the embeddings and the matrices of the layers are rounded to eight bits, a scale for each row; norms and
    biases stay as they are. `keep` says where a matrix, or each part of one in eight bits, is to lie; then one layer
    at a time is there twice.
    """

    def matrix(weight: jax.Array) -> Any:
        made = quantize_rows(weight) if int8 else weight
        return made if keep is None else jax.tree.map(keep, made)

    def layer(index: int) -> dict[str, Any]:
        fused = _fused(config, {name: jnp.asarray(value[index], dtype) for name, value in params["layers"].items()})
        return {name: matrix(value) if name in MATRICES else value for name, value in fused.items()}

    layers = [layer(index) for index in range(config.num_layers)]
    weights: dict[str, Any] = {
        "embedding": matrix(jnp.asarray(params["embedding"], dtype)),
        "final": {name: jnp.asarray(params[name], dtype) for name in params if name.startswith("final_norm")},
        "matrices": {name: [w[name] for w in layers] for name in MATRICES},
        "vectors": {name: jnp.stack([w[name] for w in layers]) for name in layers[0] if name not in MATRICES},
    }
    if not config.tie_embeddings:
        weights["unembedding"] = matrix(jnp.asarray(params["unembedding"], dtype))
    return weights


def _fused(config: ModelConfig, w: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """One layer's weights: `wqkv` [K · (G + 2) · D, E], the query heads of a key-value head before its key and value;
    `wo` [E, H · D]; `w_up` [F · 2, E], of each channel the gate first ([F, E] without gates); `w_down` [E, F]; their
    biases; and the others as they are."""
    c = config
    E, K, G, D = c.embed_dim, c.num_kv_heads, c.num_heads // c.num_kv_heads, c.head_dim

    def by_head(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        front = q.shape[:-2]
        return jnp.concatenate([q.reshape(*front, K, G, D), k[..., None, :], v[..., None, :]], axis=-2)

    fused = {"wqkv": by_head(w.pop("wq"), w.pop("wk"), w.pop("wv")).reshape(E, -1).T}
    fused["wo"] = w.pop("wo").reshape(-1, E).T
    if c.qkv_bias:
        fused["bqkv"] = by_head(w.pop("bq"), w.pop("bk"), w.pop("bv")).reshape(-1)
    wide = ("gate", "up") if c.gated else ("up",)
    fused["w_up"] = jnp.stack([w.pop(f"w_{name}") for name in wide], axis=-1).reshape(E, -1).T
    if c.projection_bias:
        fused["b_up"] = jnp.stack([w.pop(f"b_{name}") for name in wide], axis=-1).reshape(-1)
    fused["w_down"] = w.pop("w_down").T
    return fused | w


def decoding_axes(config: ModelConfig) -> dict[str, Any]:
    """Tree of logical axis names, one tuple per array of `decoding_weights` (of an Int8Matrix: those of its values)."""
    c = config
    matrices = {"wqkv": ("kv_heads", "embed"), "wo": ("embed", "kv_heads"), "w_up": ("mlp", "embed")}
    matrices["w_down"] = ("embed", "mlp")
    vectors = {name: spec.axes for name, spec in layer_specs(c).items() if "norm" in name or name in ("bo", "b_down")}
    vectors |= {"bqkv": ("kv_heads",)} if c.qkv_bias else {}
    vectors |= {"b_up": ("mlp",)} if c.projection_bias else {}
    axes: dict[str, Any] = {
        "embedding": ("vocab", "channels"),
        "final": {name: ("norm",) for name in ("final_norm", "final_norm_bias")[: 1 + (c.norm == "layer")]},
        "matrices": {name: [matrices[name]] * c.num_layers for name in MATRICES},
        "vectors": {name: ("layers", *of_one) for name, of_one in vectors.items()},
    }
    if not c.tie_embeddings:
        axes["unembedding"] = ("vocab", "channels")
    return axes


def product(x: jax.Array, matrices: Sequence[Any], layer: Any, *, columns: bool = False) -> jax.Array:
    """x [..., in] times the layer's matrix [out, in]: [..., out], of the dtype of x. With `columns` x is [in, M], and
    what comes [out, M].

    Where the layer is known only when the program runs, it is a choice among as many products: these are calls of a
    library, and cost no time to compile.
    """
    if isinstance(matrices[0], Int8Matrix):
        return int8_product(x, matrices, layer).astype(x.dtype)

    def by(matrix: jax.Array) -> Callable[[jax.Array], jax.Array]:
        return lambda x: matrix @ x if columns else jnp.einsum("...i,oi->...o", x, matrix)

    return choose_layer([by(matrix) for matrix in matrices], layer, x)


def mlp(
    config: ModelConfig, x_BSE: jax.Array, w: Mapping[str, Any], matrices: Mapping[str, Any], layer: Any, *, loop: bool
) -> jax.Array:
    """The layer's MLP of normalized states, [B, S, E].

    In the `loop`, which is for a CPU, tokens are columns: a library that finds the matrix on the left packs the few
    columns instead of it, and eight tokens take two fifths of the time with `w_down`, 256 three quarters with `w_up`.
    """
    c = config
    columns = loop and not isinstance(matrices["w_up"][0], Int8Matrix)
    x = x_BSE.reshape(-1, c.embed_dim).T if columns else x_BSE

    def biased(x: jax.Array, name: str) -> jax.Array:
        if not c.projection_bias:
            return x
        return x + (w[name][:, None] if columns else w[name])

    up = biased(product(x, matrices["w_up"], layer, columns=columns), "b_up")
    parts = up.reshape(c.mlp_dim, -1, up.shape[-1]) if columns else up.reshape(*up.shape[:-1], c.mlp_dim, -1)
    gate, *linear = jnp.unstack(parts, axis=1 if columns else -1)
    h = jax.nn.silu(gate) if c.mlp == "swiglu" else jax.nn.gelu(gate)
    for factor in linear:
        h = h * factor
    out = biased(product(h, matrices["w_down"], layer, columns=columns), "b_down")
    return out.T.reshape(x_BSE.shape) if columns else out


def read(
    config: ModelConfig,
    weights: Mapping[str, Any],
    cache: SlotCache,
    slot: Any,
    tokens_BS: jax.Array,
    positions_BS: jax.Array,
    *,
    loop: bool,
) -> tuple[jax.Array, SlotCache]:
    """Hidden states after the final norm, [B, S, E], of tokens that slots `slot` … `slot` + B - 1 go on with, and the
    cache with these tokens in.

    The layers are a `loop`, which compiles in a fraction of the time, or one after the other, which lets an accelerator
    run ahead. Token (b, s) stands at positions_BS[b, s]; at `cache.length` it is padding, written nowhere, and its
    hidden state means nothing.
    """
    c = config
    G = c.num_heads // c.num_kv_heads
    B, S = tokens_BS.shape
    embedding = weights["embedding"]
    x_BSE = embedding.rows(tokens_BS) if isinstance(embedding, Int8Matrix) else jnp.take(embedding, tokens_BS, axis=0)
    x_BSE = x_BSE.astype(weights["final"]["final_norm"].dtype)
    if c.embedding_scale != 1:
        x_BSE = x_BSE * jnp.asarray(c.embedding_scale, x_BSE.dtype)
    tables = rotary_tables(c, positions_BS)
    slots_B1 = slot + jnp.arange(B)[:, None]
    last = jnp.max(jnp.where(positions_BS < cache.length, positions_BS, 0))
    matrices = weights["matrices"]

    def layer(index: Any, carry: tuple[jax.Array, SlotCache]) -> tuple[jax.Array, SlotCache]:
        x_BSE, cache = carry
        w = {name: stacked[index] for name, stacked in weights["vectors"].items()}
        qkv = product(normalized(c, x_BSE, w, "attention_norm"), matrices["wqkv"], index)
        if c.qkv_bias:
            qkv = qkv + w["bqkv"]
        qkv_BSKGD = qkv.reshape(B, S, c.num_kv_heads, G + 2, c.head_dim)
        q_BSHD = qkv_BSKGD[:, :, :, :G].reshape(B, S, c.num_heads, c.head_dim)
        k_BSKD, v_BSKD = qkv_BSKGD[:, :, :, G], qkv_BSKGD[:, :, :, G + 1]
        if c.qk_norm:
            q_BSHD, k_BSKD = rms_norm(q_BSHD, w["q_norm"], c.norm_eps), rms_norm(k_BSKD, w["k_norm"], c.norm_eps)
        q_BSHD, k_BSKD = rotate(q_BSHD, tables), rotate(k_BSKD, tables)
        cache = SlotCache(
            cache.keys.write(index, slots_B1, positions_BS, k_BSKD),
            cache.values.write(index, slots_B1, positions_BS, v_BSKD),
        )
        mixed_BSHD = attend(q_BSHD, cache, index, slot, positions_BS, last, on_cpu=loop)
        x_BSE = x_BSE + product(mixed_BSHD.reshape(B, S, -1), matrices["wo"], index)
        if c.projection_bias:
            x_BSE = x_BSE + w["bo"]

        return x_BSE + mlp(c, normalized(c, x_BSE, w, "mlp_norm"), w, matrices, index, loop=loop), cache

    if loop:
        x_BSE, cache = jax.lax.fori_loop(0, c.num_layers, layer, (x_BSE, cache))
    else:
        for index in range(c.num_layers):
            x_BSE, cache = layer(index, (x_BSE, cache))
    return normalized(c, x_BSE, weights["final"], "final_norm"), cache


def logits(config: ModelConfig, weights: Mapping[str, Any], hidden: jax.Array) -> jax.Array:
    """Logits in float32, [..., V], of hidden states [..., E]."""
    weight = unembedding(config, weights)
    if isinstance(weight, Int8Matrix):
        return int8_product(hidden, [weight], 0)
    return jnp.einsum("...e,ve->...v", hidden, weight, preferred_element_type=jnp.float32)
