"""config.json of a Hugging Face folder: read into the shape of a network, and written from one.

What it asks for beyond what the decoder computes is refused by the name of the field, never left out.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.tokenizer import SpecialTokens
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.families import FAMILIES, Family, family_of
from demiurgic_jax.model.config import ModelConfig, RopeScaling

# Field → the values at which it asks for nothing that the decoder does not compute, in whatever family.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "use_sliding_window": (False, None),
    "partial_rotary_factor": (1.0, None),
    "quantization_config": (None,),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "clip_qkv": (None,),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
}


def read_config(
    fields: Mapping[str, Any], where: Path, tensors: Collection[str], max_context: int | None
) -> tuple[Family, ModelConfig]:
    """Family and shape that config.json describes; `max_context` in place of the context that it names.

    UserError names the first field that the decoder does not express.
    """
    family = _family(fields, where)
    for field, values in {**_NEUTRAL, **family.fixed}.items():
        if field in fields and fields[field] not in values:
            raise UserError(f"{where}: {field}={fields[field]!r} cannot be imported, only {values[0]!r}")

    def number(field: str, default: int | None = None) -> int:
        value = fields.get(field) if fields.get(field) is not None else default
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"{where}: {field}={value!r} is no whole number: restore that file")
        return value

    heads, embed = number("num_attention_heads"), number("hidden_size")
    context = number("max_position_embeddings") if max_context is None else max_context
    _require_full_attention(fields, family, where, context)
    theta, scaling = _rope(fields, where)
    tied = fields.get("tie_word_embeddings")
    return family, ModelConfig(
        vocab_size=number("vocab_size"),
        embed_dim=embed,
        num_layers=number("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=number("num_key_value_heads", heads),
        head_dim=number("head_dim", family.head_dim or embed // max(heads, 1)),
        mlp_dim=number("intermediate_size"),
        max_context=context,
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=_positive(fields, family.norm_eps, where),
        tie_embeddings=bool(tied) if tied is not None else "lm_head.weight" not in tensors,
        **family.model_features(embed),
    )


def _family(fields: Mapping[str, Any], where: Path) -> Family:
    kind = str(fields.get("model_type"))
    if kind not in FAMILIES:
        raise UserError(f"{where}: model_type {kind!r} cannot be imported; known are {', '.join(FAMILIES)}")
    family = FAMILIES[kind]
    architectures = fields.get("architectures") or [family.architecture]
    if family.architecture not in architectures:
        raise UserError(
            f"{where}: architectures={architectures!r} cannot be imported, only {family.architecture}: it is no "
            "language model, or of another code"
        )
    return family


def _require_full_attention(fields: Mapping[str, Any], family: Family, where: Path, context: int) -> None:
    """A window as long as the context hides nothing. Qwen's configs name one that use_sliding_window leaves unused."""
    window = fields.get("sliding_window")
    if not family.name.startswith("qwen") and window is not None and window < context:
        raise UserError(
            f"{where}: sliding_window={window} is shorter than the context of {context}, and attention here is full: "
            f"import it for the context in which that is the same (max_context={window})"
        )
    for kind in fields.get("layer_types") or ():
        if kind != "full_attention" and (window is None or window < context):
            raise UserError(f"{where}: layer_types has {kind!r}, which cannot be imported: attention here is full")


def _rope(fields: Mapping[str, Any], where: Path) -> tuple[float, RopeScaling | None]:
    """Base and scaling: in `rope_parameters` since transformers 5, in two fields before."""
    rope = {
        "rope_theta": fields.get("rope_theta"),
        **(fields.get("rope_scaling") or {}),
        **(fields.get("rope_parameters") or {}),
    }
    if any(isinstance(value, dict) for value in rope.values()):
        raise UserError(f"{where}: rope_parameters differ by kind of layer, which cannot be imported")
    if rope["rope_theta"] is None:
        rope["rope_theta"] = fields.get("rope_theta") or 10_000.0
    theta = _positive(rope, "rope_theta", where)
    if rope.get("partial_rotary_factor") not in (None, 1.0):
        raise UserError(f"{where}: partial_rotary_factor={rope['partial_rotary_factor']} cannot be imported, only 1.0")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling("linear", _positive(rope, "factor", where))
    if kind == "llama3":
        return theta, RopeScaling(
            "llama3",
            _positive(rope, "factor", where),
            int(_positive(rope, "original_max_position_embeddings", where)),
            _positive(rope, "low_freq_factor", where),
            _positive(rope, "high_freq_factor", where),
        )
    raise UserError(f"{where}: rope_type {kind!r} cannot be imported; known are default, linear, llama3")


def _positive(fields: Mapping[str, Any], name: str, where: Path) -> float:
    value = fields.get(name)
    if not isinstance(value, int | float) or not value > 0:
        raise UserError(f"{where}: {name}={value!r} is no number above 0: restore that file")
    return float(value)


def write_config(config: ModelConfig, special: SpecialTokens, dtype: np.dtype) -> dict[str, Any]:
    """config.json of the network, as its family of `transformers` reads it; `dtype` is what it is to be loaded in."""
    family = family_of(config)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if (scaling := config.rope_scaling) is not None:
        rope |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling is not None and scaling.kind == "llama3":
        rope |= {
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    fixed = {field: values[0] for field, values in family.fixed.items() if values[0] is not None}
    return {
        "architectures": [family.architecture],
        "model_type": family.name,
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_context,
        family.norm_eps: config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "rope_parameters": rope,
        # Programs that read transformers 4's configs (llama.cpp's converter, vLLM's older releases) look here.
        "rope_theta": config.rope_theta,
        "rope_scaling": None if scaling is None else {k: v for k, v in rope.items() if k != "rope_theta"},
        **fixed,
        "sliding_window": None,
        "bos_token_id": special.bos,
        "eos_token_id": special.eos,
        "pad_token_id": special.pad,
        "torch_dtype": dtype.name,
        "use_cache": True,
    }
