"""Every parameter's shape, logical axes and initializer, declared once.

Initialization, abstract shapes, shardings and checks all derive from `parameter_specs`. Layers are
stacked along a leading `layers` axis, whether the decoder scans over them or unrolls them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from demiurgic_jax.model.config import ModelConfig

Initializer = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]


class ParameterSpec(NamedTuple):
    """One parameter: `axes` names each dimension of `shape`."""

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    initializer: Initializer


def is_spec(node: Any) -> bool:
    """Leaf test for trees of ParameterSpec."""
    return isinstance(node, ParameterSpec)


def _normal(fan_in: int, scale: float = 1.0) -> Initializer:
    return jax.nn.initializers.normal(stddev=scale * fan_in**-0.5)


_ones = jax.nn.initializers.ones
_zeros = jax.nn.initializers.zeros


def _gain(config: ModelConfig) -> ParameterSpec:
    return ParameterSpec((config.embed_dim,), ("norm",), _zeros if config.norm == "rms_plus_one" else _ones)


def layer_specs(config: ModelConfig) -> dict[str, ParameterSpec]:
    """The parameters of one layer.

    Weights are normal with variance 1 / fan-in; the two projections that write to the residual stream
    are smaller by sqrt(2 · layers), so that its variance does not grow with depth (GPT-2).
    """
    c = config
    e, h, k, d, f = c.embed_dim, c.num_heads, c.num_kv_heads, c.head_dim, c.mlp_dim
    residual = (2 * c.num_layers) ** -0.5
    gain, wide = _gain(c), ParameterSpec((e, f), ("embed", "mlp"), _normal(e))
    layer: dict[str, ParameterSpec] = {
        "attention_norm": gain,
        "wq": ParameterSpec((e, h, d), ("embed", "heads", "head_dim"), _normal(e)),
        "wk": ParameterSpec((e, k, d), ("embed", "kv_heads", "head_dim"), _normal(e)),
        "wv": ParameterSpec((e, k, d), ("embed", "kv_heads", "head_dim"), _normal(e)),
        "wo": ParameterSpec((h, d, e), ("heads", "head_dim", "embed"), _normal(h * d, residual)),
        "mlp_norm": gain,
        **({"w_gate": wide} if c.gated else {}),
        "w_up": wide,
        "w_down": ParameterSpec((f, e), ("mlp", "embed"), _normal(f, residual)),
    }
    if c.norm == "layer":
        layer["attention_norm_bias"] = layer["mlp_norm_bias"] = ParameterSpec((e,), ("norm",), _zeros)
    if c.projection_bias:
        layer["bo"] = layer["b_down"] = ParameterSpec((e,), ("norm",), _zeros)
        layer["b_up"] = ParameterSpec((f,), ("mlp",), _zeros)
        if c.gated:
            layer["b_gate"] = layer["b_up"]
    if c.qkv_bias:
        layer["bq"] = ParameterSpec((h, d), ("heads", "head_dim"), _zeros)
        layer["bk"] = ParameterSpec((k, d), ("kv_heads", "head_dim"), _zeros)
        layer["bv"] = ParameterSpec((k, d), ("kv_heads", "head_dim"), _zeros)
    if c.qk_norm:
        layer["q_norm"] = ParameterSpec((d,), ("head_dim",), _ones)
        layer["k_norm"] = ParameterSpec((d,), ("head_dim",), _ones)
    return layer


def parameter_specs(config: ModelConfig) -> dict[str, Any]:
    """Nested dict of ParameterSpec, the same tree as the parameters themselves."""
    c = config
    e = c.embed_dim
    specs: dict[str, Any] = {
        "embedding": ParameterSpec((c.vocab_size, e), ("vocab", "channels"), _normal(e)),
        "layers": {
            name: ParameterSpec((c.num_layers, *spec.shape), ("layers", *spec.axes), spec.initializer)
            for name, spec in layer_specs(c).items()
        },
        "final_norm": _gain(c),
    }
    if c.norm == "layer":
        specs["final_norm_bias"] = ParameterSpec((e,), ("norm",), _zeros)
    if not c.tie_embeddings:
        specs["unembedding"] = ParameterSpec((c.vocab_size, e), ("vocab", "channels"), _normal(e))
    return specs


def abstract_parameters(config: ModelConfig, dtype: Any = jnp.float32) -> dict[str, Any]:
    """Tree of jax.ShapeDtypeStruct: the parameters' shapes without their values."""
    return jax.tree.map(lambda spec: jax.ShapeDtypeStruct(spec.shape, dtype), parameter_specs(config), is_leaf=is_spec)


def parameter_axes(config: ModelConfig) -> dict[str, Any]:
    """Tree of logical axis names, one tuple per parameter."""
    return jax.tree.map(lambda spec: spec.axes, parameter_specs(config), is_leaf=is_spec)


def initialize(key: jax.Array, specs: Any, dtype: Any = jnp.float32) -> Any:
    """Fresh values for a tree of specs; each leaf has a key of its own."""
    leaves, treedef = jax.tree.flatten(specs, is_leaf=is_spec)
    keys = jax.random.split(key, len(leaves))
    values = [spec.initializer(k, spec.shape, dtype) for k, spec in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, values)


def at_path(path: Sequence[str], tree: Any) -> Any:
    """What lies at `path`, name by name, in a tree of parameters or of anything laid out like one."""
    for name in path:
        tree = tree[name]
    return tree
