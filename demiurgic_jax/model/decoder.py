"""The network: tokens [B, S] → hidden [B, S, E] → logits [B, S, V].

A pre-norm decoder of the Llama family: RMSNorm, rotary grouped-query attention, SwiGLU, and what other families have
in their place (`ModelConfig.norm`, `mlp`, `projection_bias`, `embedding_scale`). It knows no mesh: weights and
activations pass through a `Layout` with the logical names of their axes, and whoever runs the network on a mesh hands
in what that means.

Shape suffixes: B batch, S sequence, T cache length, H heads, K kv heads, D head dim, E embed, F mlp,
V vocab, L layers.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.attention import cached_attention, rotary_tables, rotate
from demiurgic_jax.model.attention_kernels import KERNEL_RESIDUALS
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.layout import ONE_DEVICE, Layout
from demiurgic_jax.model.parameters import initialize, layer_specs, parameter_specs
from demiurgic_jax.model.quantized_weight import Int8Weight


class Kept(NamedTuple):
    """Names of the values of a layer that its backward pass finds already computed; all others it computes again."""

    on_device: tuple[str, ...]
    on_host: tuple[str, ...] = ()

    def policy(self, *more: str) -> Any:
        """The policy of `jax.checkpoint` that keeps these, and `more` on the device."""
        return jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[*self.on_device, *more],
            names_which_can_be_offloaded=list(self.on_host),
            offload_src="device",
            offload_dst="pinned_host",
        )


_QKV = ("query", "key", "value")
_ATTENTION = (KERNEL_RESIDUALS, "attention_output")
# From everything to nothing. Those named `…offload` keep in the host's memory, of what they keep, the layer's input and
# what attention's kernel and output projection made.
REMAT_POLICIES: Mapping[str, Kept | None] = {
    "none": None,
    "dots": Kept((*_QKV, *_ATTENTION, "gate", "up")),
    "dots_offload": Kept((*_QKV, "gate", "up"), ("layer_input", *_ATTENTION)),
    "all_but_gate_and_up": Kept((*_QKV, *_ATTENTION)),
    "all_but_gate_and_up_offload": Kept(_QKV, ("layer_input", *_ATTENTION)),
    "qkv": Kept((*_QKV, KERNEL_RESIDUALS)),
    "qkv_offload": Kept(_QKV, ("layer_input", KERNEL_RESIDUALS)),
    "attention": Kept((KERNEL_RESIDUALS,)),
    "full": Kept(()),
    "offload": Kept((), ("layer_input",)),
}


class KVCache(NamedTuple):
    """Keys and values of the positions seen so far; row t of sequence b is position t."""

    k: jax.Array  # [L, B, T, K, D]
    v: jax.Array  # [L, B, T, K, D]


def init_cache(config: ModelConfig, batch: int, length: int, dtype: Any = jnp.float32) -> KVCache:
    """An empty cache for `batch` sequences of up to `length` tokens."""
    shape = (config.num_layers, batch, length, config.num_kv_heads, config.head_dim)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x / rms(x) · scale over the last axis, computed in float32 (Zhang & Sennrich 2019)."""
    x32 = x.astype(jnp.float32)
    normed = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    # As an einsum: its gradient for `scale` is a dot product over rows, which XLA's CPU compiler does faster
    # than the sum that a plain product would leave.
    return jnp.einsum("...e,e->...e", normed, scale.astype(jnp.float32)).astype(x.dtype)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """(x - mean(x)) / std(x) · scale + bias over the last axis, computed in float32 (Ba et al. 2016)."""
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + eps)
    return (normed * scale.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def normalized(config: ModelConfig, x: jax.Array, weights: Mapping[str, jax.Array], name: str) -> jax.Array:
    """x through the norm `name` of the config's kind, over the last axis."""
    scale = weights[name]
    if config.norm == "layer":
        return layer_norm(x, scale, weights[f"{name}_bias"], config.norm_eps)
    if config.norm == "rms_plus_one":
        scale = 1 + scale.astype(jnp.float32)
    return rms_norm(x, scale, config.norm_eps)


@jax.custom_vjp
def alone_in_backward(x: Any) -> Any:
    """x itself, an array or a tree of them; the gradients that come back are all finished before one is used.

    XLA would fuse adding a gradient to others, and the sums of a norm's gradient, into the matmul that makes it, which
    on a TPU runs at half speed then; and it would put off weights' gradients, whose operands fill the memory.
    """
    return x


alone_in_backward.defvjp(lambda x: (x, None), lambda _, gradient: (jax.lax.optimization_barrier(gradient),))


class Decoder(nn.Module):
    """Parameters in, activations out: `init` and `apply` are pure functions of them.

    `remat` names what a backward pass finds already computed. The weights of the last `gathered_once` layers stay whole
    from their forward to their backward pass, which follows soon; all others are gathered for each.
    `project(einsum string, activations, weight)` is the product with each weight of a layer.
    """

    config: ModelConfig
    compute_dtype: Any = jnp.float32
    remat: str = "none"
    scan_layers: bool = True
    gathered_once: int = 1
    layout: Layout = ONE_DEVICE
    project: Callable[[str, jax.Array, jax.Array], jax.Array] = jnp.einsum

    def setup(self) -> None:
        if self.remat not in REMAT_POLICIES:
            raise UserError(f"remat {self.remat!r} is unknown: choose one of {', '.join(REMAT_POLICIES)}")
        # One linen parameter per top-level entry; `layers` is a dict of stacked weights. Past `init` they are taken as
        # they come: linen's check of shapes would refuse the part of a weight that one device of a mesh stores.
        if self.is_initializing():
            for name, spec in parameter_specs(self.config).items():
                self.param(name, lambda key, spec=spec: initialize(key, spec))
        self.weights = self.variables["params"]

    def __call__(
        self,
        tokens_BS: jax.Array,
        positions_BS: jax.Array,
        segment_ids_BS: jax.Array | None = None,
        cache: KVCache | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """Hidden states after the final norm, [B, S, E] in `compute_dtype`, and the cache with these tokens in.

        With a cache, the keys and values of token (b, s) are written to row positions_BS[b, s] (positions
        at or past the cache's length are dropped: use them for padding) and attended to from there on.
        """
        x_BSE, cache, _ = self.through_layers(tokens_BS, positions_BS, segment_ids_BS, cache, ())
        return normalized(self.config, x_BSE, self.weights, "final_norm"), cache

    def with_layers(
        self, tokens_BS: jax.Array, positions_BS: jax.Array, segment_ids_BS: jax.Array, chosen: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array | None]:
        """The hidden states of a call without a cache, and what comes out of the `chosen` layers (numbers from 0, each
        once) in their order, [len(chosen), B, S, E]; None where none is chosen."""
        x_BSE, _, chosen_PBSE = self.through_layers(tokens_BS, positions_BS, segment_ids_BS, None, chosen)
        return normalized(self.config, x_BSE, self.weights, "final_norm"), chosen_PBSE

    def through_layers(
        self,
        tokens_BS: jax.Array,
        positions_BS: jax.Array,
        segment_ids_BS: jax.Array | None,
        cache: KVCache | None,
        chosen: tuple[int, ...],
    ) -> tuple[jax.Array, KVCache | None, jax.Array | None]:
        """What comes out of the last layer, the cache, and what comes out of the chosen ones."""
        c = self.config
        embedding_VE = self.layout.gather(self.weights["embedding"].astype(self.compute_dtype), ("vocab", "channels"))
        rows_BS = self.layout.vocabulary_rows(tokens_BS, c.vocab_size)
        x_BSE = self.layout.constrain(embed(embedding_VE, rows_BS), ("batch", "sequence", "act_embed"))
        if c.embedding_scale != 1:
            x_BSE = x_BSE * jnp.asarray(c.embedding_scale, x_BSE.dtype)
        if segment_ids_BS is None:
            segment_ids_BS = jnp.zeros_like(tokens_BS)
        tables = rotary_tables(c, positions_BS)

        def layer(x_BSE: jax.Array, weights: Mapping[str, jax.Array], cache: KVCache | None, index: Any):
            x_BSE, weights = alone_in_backward((x_BSE, weights))
            return self.block(x_BSE, weights, positions_BS, segment_ids_BS, tables, cache, index)

        stacked, last, first = self.weights["layers"], layer, c.num_layers
        if cache is None:
            # Once, not in each layer: their gradients then stay in the dtype in which they are summed over devices.
            stacked = {
                name: w if "norm" in name or isinstance(w, Int8Weight) else w.astype(self.compute_dtype)
                for name, w in stacked.items()
            }
            if (kept := REMAT_POLICIES[self.remat]) is not None:
                remat = partial(jax.checkpoint, prevent_cse=not self.scan_layers)
                layer, last = remat(layer, policy=kept.policy()), remat(layer, policy=kept.policy("gathered"))
                # Where nothing is gathered there is nothing to gain by a second program for the last layers.
                if self.layout.gather is not ONE_DEVICE.gather:
                    first = max(0, c.num_layers - self.gathered_once)
        parts = _split(stacked, first, c.num_layers)
        # Written as they come by, so that of all other layers nothing stays.
        through = x_BSE, cache, jnp.zeros((len(chosen), *x_BSE.shape), x_BSE.dtype) if chosen else None
        for run, indices, part in zip((layer, last), (range(first), range(first, c.num_layers)), parts, strict=True):
            if indices:
                through = self.layers(run, indices, part, through, chosen)
        return through

    def layers(
        self,
        layer: Callable[..., tuple[jax.Array, KVCache | None]],
        indices: range,
        stacked: Mapping[str, jax.Array],
        through: tuple[jax.Array, KVCache | None, jax.Array | None],
        chosen: tuple[int, ...],
    ) -> tuple[jax.Array, KVCache | None, jax.Array | None]:
        """x, the cache and the chosen layers' outputs after the layers numbered `indices`, whose weights are
        `stacked`."""
        x_BSE, cache, chosen_PBSE = through
        if self.scan_layers:
            places = None
            if chosen:
                places = jnp.array([chosen.index(i) if i in chosen else len(chosen) for i in indices], jnp.int32)

            def scanned(carry: Any, xs: Any) -> tuple[Any, None]:
                (x_BSE, cache, chosen_PBSE), (index, place, weights) = carry, xs
                x_BSE, cache = layer(x_BSE, weights, cache, index)
                if chosen_PBSE is not None:
                    chosen_PBSE = chosen_PBSE.at[place].set(x_BSE, mode="drop")
                return (x_BSE, cache, chosen_PBSE), None

            numbers = jnp.arange(indices.start, indices.stop)
            return jax.lax.scan(scanned, (x_BSE, cache, chosen_PBSE), (numbers, places, stacked))[0]
        for index, weights in zip(indices, _unstack(stacked, len(indices)), strict=True):
            x_BSE, cache = layer(x_BSE, weights, cache, index)
            if chosen_PBSE is not None and index in chosen:
                chosen_PBSE = chosen_PBSE.at[chosen.index(index)].set(x_BSE)
        return x_BSE, cache, chosen_PBSE

    def block(
        self,
        x_BSE: jax.Array,
        weights: Mapping[str, jax.Array],
        positions_BS: jax.Array,
        segment_ids_BS: jax.Array,
        tables: tuple[jax.Array, jax.Array],
        cache: KVCache | None,
        index: Any,
    ) -> tuple[jax.Array, KVCache | None]:
        """One layer: x + attention(norm(x)), then x + mlp(norm(x))."""
        c = self.config
        x_BSE = checkpoint_name(x_BSE, "layer_input")
        w = {
            name: checkpoint_name(self.layout.gather(weights[name].astype(self.compute_dtype), spec.axes), "gathered")
            for name, spec in layer_specs(c).items()
        }
        residual_axes = ("batch", "sequence", "act_embed")
        head_axes = ("batch", "sequence", "act_heads", "head_dim")

        h_BSE = normalized(c, x_BSE, weights, "attention_norm")
        # Finished before they are rotated: a TPU's matmul with the rotation fused into it takes twice as long.
        q_BSHD = jax.lax.optimization_barrier(self.project("bse,ehd->bshd", h_BSE, w["wq"]))
        k_BSKD = jax.lax.optimization_barrier(self.project("bse,ekd->bskd", h_BSE, w["wk"]))
        v_BSKD = self.project("bse,ekd->bskd", h_BSE, w["wv"])
        if c.qkv_bias:
            q_BSHD, k_BSKD, v_BSKD = q_BSHD + w["bq"], k_BSKD + w["bk"], v_BSKD + w["bv"]
        if c.qk_norm:
            q_BSHD = rms_norm(q_BSHD, weights["q_norm"], c.norm_eps)
            k_BSKD = rms_norm(k_BSKD, weights["k_norm"], c.norm_eps)
        q_BSHD = self.layout.constrain(rotate(q_BSHD, tables), head_axes)
        k_BSKD = self.layout.constrain(rotate(k_BSKD, tables), head_axes)
        q_BSHD, k_BSKD = checkpoint_name(q_BSHD, "query"), checkpoint_name(k_BSKD, "key")
        v_BSKD = checkpoint_name(v_BSKD, "value")
        if cache is None:
            mixed_BSHD = self.layout.attend(q_BSHD, k_BSKD, v_BSKD, segment_ids_BS)
        else:
            rows_B1 = jnp.arange(x_BSE.shape[0])[:, None]
            cache = KVCache(
                cache.k.at[index, rows_B1, positions_BS].set(k_BSKD.astype(cache.k.dtype), mode="drop"),
                cache.v.at[index, rows_B1, positions_BS].set(v_BSKD.astype(cache.v.dtype), mode="drop"),
            )
            k_BTKD, v_BTKD = (x[index].astype(self.compute_dtype) for x in cache)
            mixed_BSHD = cached_attention(q_BSHD, k_BTKD, v_BTKD, positions_BS)
        x_BSE = x_BSE + checkpoint_name(self.project("bshd,hde->bse", mixed_BSHD, w["wo"]), "attention_output")
        if c.projection_bias:
            x_BSE = x_BSE + w["bo"]
        x_BSE = self.layout.constrain(x_BSE, residual_axes)

        h_BSE = normalized(c, x_BSE, weights, "mlp_norm")
        if c.gated:
            gate_BSF = checkpoint_name(alone_in_backward(self.project("bse,ef->bsf", h_BSE, w["w_gate"])), "gate")
        up_BSF = checkpoint_name(alone_in_backward(self.project("bse,ef->bsf", h_BSE, w["w_up"])), "up")
        if c.projection_bias:
            up_BSF = up_BSF + w["b_up"]
            gate_BSF = gate_BSF + w["b_gate"] if c.gated else None
        activation = jax.nn.silu if c.mlp == "swiglu" else jax.nn.gelu
        h_BSF = activation(gate_BSF) * up_BSF if c.gated else activation(up_BSF)
        x_BSE = x_BSE + self.project(
            "bsf,fe->bse", self.layout.constrain(h_BSF, ("batch", "sequence", "act_mlp")), w["w_down"]
        )
        if c.projection_bias:
            x_BSE = x_BSE + w["b_down"]
        return self.layout.constrain(x_BSE, residual_axes), cache

    def unembed(self, hidden: jax.Array) -> jax.Array:
        """Logits in float32, [..., V], of hidden states [..., E]."""
        return jnp.einsum(
            "...e,ve->...v",
            hidden,
            unembedding(self.config, self.weights).astype(self.compute_dtype),
            preferred_element_type=jnp.float32,
        )


@jax.custom_vjp
def embed(embedding_VE: jax.Array, tokens_BS: jax.Array) -> jax.Array:
    """Rows of the embedding, [B, S, E]. Their gradients are summed in float32: a common token has thousands, and
    bfloat16 would lose the later ones."""
    return jnp.take(embedding_VE, tokens_BS, axis=0)


def _embed_backward(residuals: tuple[Any, jax.Array], d_x_BSE: jax.Array) -> tuple[jax.Array, None]:
    shape_and_dtype, tokens_BS = residuals
    summed_VE = jnp.zeros(shape_and_dtype.shape, jnp.float32).at[tokens_BS].add(d_x_BSE.astype(jnp.float32))
    return summed_VE.astype(shape_and_dtype.dtype), None


embed.defvjp(
    lambda embedding_VE, tokens_BS: (
        embed(embedding_VE, tokens_BS),
        (jax.ShapeDtypeStruct(embedding_VE.shape, embedding_VE.dtype), tokens_BS),
    ),
    _embed_backward,
)


def unembedding(config: ModelConfig, params: Mapping[str, Any]) -> jax.Array:
    """The matrix [V, E] that turns hidden states into logits: the embedding itself when tied."""
    return params["embedding"] if config.tie_embeddings else params["unembedding"]


def init_params(decoder: Decoder, key: jax.Array) -> dict[str, Any]:
    """Fresh parameters of `decoder`, float32, without the network being run."""
    return initialize(key, parameter_specs(decoder.config))


def _split(
    stacked: Mapping[str, jax.Array], first: int, count: int
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The first of `count` layers and the others."""
    if first == count:
        return dict(stacked), {}
    # lax.split's transpose is one concatenation; indexing's would be padded additions.
    parts = {name: jax.lax.split(value, [first, count - first], axis=0) for name, value in stacked.items()}
    return {name: part[0] for name, part in parts.items()}, {name: part[1] for name, part in parts.items()}


def _unstack(stacked: Mapping[str, jax.Array], count: int) -> list[dict[str, jax.Array]]:
    parts = {name: jax.lax.split(value, [1] * count, axis=0) for name, value in stacked.items()}
    return [{name: part[i][0] for name, part in parts.items()} for i in range(count)]
