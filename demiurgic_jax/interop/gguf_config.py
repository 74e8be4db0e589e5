"""The metadata of a GGUF file that say what network it holds: read into a ModelConfig, and written from one."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.families import FAMILIES, Family, family_of
from demiurgic_jax.interop.gguf_file import GgufFile
from demiurgic_jax.model.attention import rotary_frequencies
from demiurgic_jax.model.config import ModelConfig, RopeScaling

ROPE_FREQUENCIES = "rope_freqs.weight"
# GGUF's architecture → the family whose network it is.
ARCHITECTURES: Mapping[str, Family] = {family.gguf: family for family in reversed(list(FAMILIES.values()))}

# Fields of an architecture → the values at which they ask for nothing that the decoder does not compute.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "use_parallel_residual": (False,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.causal": (True,),
    "attention.scale": (),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "rope.scaling.attn_factor": (1.0,),
}
# GGUF stores what Llama 3's scaling divides each frequency by, not the four numbers that it follows from. Of these
# two Llama 3.1, 3.2 and 3.3 and models made from them have the same; the others can be seen.
_LLAMA3_LOW, _LLAMA3_HIGH = 1.0, 4.0
_LLAMA3_CONTEXTS = tuple(2**power for power in range(5, 21))


def read_config(file: GgufFile, max_context: int | None) -> tuple[Family, ModelConfig]:
    """Family and shape that the file's metadata describe; `max_context` in place of the context that it names."""
    if (architecture := file.require("general.architecture", str)) not in ARCHITECTURES:
        raise UserError(
            f"{file.path} holds a {architecture!r} model, which cannot be imported; known are "
            f"{', '.join(ARCHITECTURES)}"
        )
    family = ARCHITECTURES[architecture]
    for field, values in _NEUTRAL.items():
        key = f"{architecture}.{field}"
        if key in file.metadata and file.metadata[key] not in values:
            raise UserError(f"{file.path}: {key}={file.metadata[key]!r} cannot be imported")

    def number(field: str, default: int | None = None) -> int:
        key = f"{architecture}.{field}"
        return file.require(key, int) if default is None else file.get(key, default)

    heads, embed = number("attention.head_count"), number("embedding_length")
    head_dim = number("attention.key_length", embed // max(heads, 1))
    context = number("context_length") if max_context is None else max_context
    for field in ("attention.value_length", "rope.dimension_count"):
        if (found := number(field, head_dim)) != head_dim:
            raise UserError(f"{file.path}: {architecture}.{field}={found} cannot be imported, only {head_dim}")
    if (window := number("attention.sliding_window", 0)) and window < context:
        raise UserError(
            f"{file.path}: {architecture}.attention.sliding_window={window} is shorter than the context of {context}, "
            f"and attention here is full: import it for the context in which that is the same (max_context={window})"
        )
    theta = f"{architecture}.rope.freq_base"
    config = ModelConfig(
        vocab_size=len(file.require("tokenizer.ggml.tokens", list)),
        embed_dim=embed,
        num_layers=number("block_count"),
        num_heads=heads,
        num_kv_heads=number("attention.head_count_kv", heads),
        head_dim=head_dim,
        mlp_dim=number("feed_forward_length"),
        max_context=context,
        rope_theta=_positive(file, theta) if theta in file.metadata else 10_000.0,
        norm_eps=_positive(file, f"{architecture}.{_norm_eps(family)}"),
        tie_embeddings="output.weight" not in file.tensor_names,
        **family.model_features(embed),
    )
    return family, replace(config, rope_scaling=_rope_scaling(file, architecture, config))


def _norm_eps(family: Family) -> str:
    kind = "epsilon" if family.features.get("norm") == "layer" else "rms_epsilon"
    return f"attention.layer_norm_{kind}"


def _rope_scaling(file: GgufFile, architecture: str, config: ModelConfig) -> RopeScaling | None:
    kind = file.get(f"{architecture}.rope.scaling.type", "none")
    if ROPE_FREQUENCIES in file.tensor_names:
        return _llama3_scaling(file, config)
    if kind == "linear":
        return RopeScaling("linear", _positive(file, f"{architecture}.rope.scaling.factor"))
    if kind != "none":
        raise UserError(f"{file.path}: {architecture}.rope.scaling.type={kind!r} cannot be imported; known is linear")
    return None


def _llama3_scaling(file: GgufFile, config: ModelConfig) -> RopeScaling:
    """The scaling whose divisors are those in the file."""
    stored = np.asarray(file.tensor(ROPE_FREQUENCIES), np.float32)
    if stored.shape == (config.head_dim // 2,) and np.isfinite(stored).all() and stored.max() >= 1:
        for context in _LLAMA3_CONTEXTS:
            scaling = RopeScaling("llama3", float(stored.max()), context, _LLAMA3_LOW, _LLAMA3_HIGH)
            if np.allclose(rope_divisors(replace(config, rope_scaling=scaling)), stored, rtol=1e-4):
                return scaling
    raise UserError(
        f"{file.path}: {ROPE_FREQUENCIES} scales the rotary frequencies in another way than Llama 3's: that cannot "
        "be imported"
    )


def rope_divisors(config: ModelConfig) -> np.ndarray:
    """What the config's scaling divides each rotary frequency by, float32 [D/2]."""
    plain = np.asarray(rotary_frequencies(replace(config, rope_scaling=None)), np.float64)
    return (plain / np.asarray(rotary_frequencies(config), np.float64)).astype(np.float32)


def _positive(file: GgufFile, key: str) -> float:
    """The number that was meant: 1e-5 stored as float32 reads back as 9.99999974e-06."""
    stored = file.require(key, float)
    if not 0 < stored < math.inf:
        raise UserError(f"{file.path}: metadata field {key!r} is {stored}: the file is damaged, fetch it again")
    return float(np.format_float_positional(np.float32(stored)))


def write_config(writer: Any, config: ModelConfig) -> None:
    """Adds the metadata to a gguf.GGUFWriter of the family's architecture."""
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_context)
    writer.add_embedding_length(config.embed_dim)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.mlp_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    if family_of(config).features.get("norm") == "layer":
        writer.add_layer_norm_eps(config.norm_eps)
    else:
        writer.add_layer_norm_rms_eps(config.norm_eps)
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        import gguf

        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_scaling.factor)
