"""Llama-family models from Hugging Face folders: shape and parameters.

Llama, Mistral, Qwen2 and Qwen3, where the decoder expresses them: what config.json asks for beyond that is
refused by name rather than left out.
"""

from typing import Any

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.llama_layout import read_parameters
from demiurgic_jax.interop.safetensors_folder import SafetensorsFolder
from demiurgic_jax.model.config import ModelConfig, RopeScaling

# Our name → Hugging Face's, with {} for the layer.
TENSORS = {
    "embedding": "model.embed_tokens.weight",
    "unembedding": "lm_head.weight",
    "final_norm": "model.norm.weight",
    "attention_norm": "model.layers.{}.input_layernorm.weight",
    "wq": "model.layers.{}.self_attn.q_proj.weight",
    "wk": "model.layers.{}.self_attn.k_proj.weight",
    "wv": "model.layers.{}.self_attn.v_proj.weight",
    "wo": "model.layers.{}.self_attn.o_proj.weight",
    "bq": "model.layers.{}.self_attn.q_proj.bias",
    "bk": "model.layers.{}.self_attn.k_proj.bias",
    "bv": "model.layers.{}.self_attn.v_proj.bias",
    "q_norm": "model.layers.{}.self_attn.q_norm.weight",
    "k_norm": "model.layers.{}.self_attn.k_norm.weight",
    "mlp_norm": "model.layers.{}.post_attention_layernorm.weight",
    "w_gate": "model.layers.{}.mlp.gate_proj.weight",
    "w_up": "model.layers.{}.mlp.up_proj.weight",
    "w_down": "model.layers.{}.mlp.down_proj.weight",
}

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")

# config.json field → the only value that the decoder computes.
_FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "use_sliding_window": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}


def model_config(folder: SafetensorsFolder) -> ModelConfig:
    """The shape that config.json describes. UserError names the first field that the decoder does not express."""
    fields, where = folder.config, folder.path / "config.json"
    if (family := fields.get("model_type")) not in _FAMILIES:
        raise UserError(f"{where}: model_type {family!r} cannot be imported; known are {', '.join(_FAMILIES)}")
    for field, value in _FIXED.items():
        if fields.get(field, value) != value:
            raise UserError(f"{where}: {field}={fields[field]!r} cannot be imported, only {value!r}")
    # Qwen's configs name a window that use_sliding_window leaves unused.
    if family in ("llama", "mistral") and fields.get("sliding_window") is not None:
        raise UserError(
            f"{where}: sliding_window={fields['sliding_window']} cannot be imported: attention here is full"
        )

    def whole(field: str, default: int | None = None) -> int:
        value = fields.get(field) if fields.get(field) is not None else default
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"{where}: {field}={value!r} is no whole number: restore that file")
        return value

    heads, embed = whole("num_attention_heads"), whole("hidden_size")
    theta, scaling = _rope(fields, str(where))
    return ModelConfig(
        vocab_size=whole("vocab_size"),
        embed_dim=embed,
        num_layers=whole("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=whole("num_key_value_heads", heads),
        head_dim=whole("head_dim", 128 if family == "qwen3" else embed // max(heads, 1)),
        mlp_dim=whole("intermediate_size"),
        max_context=whole("max_position_embeddings"),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=_number(fields, "rms_norm_eps", str(where)),
        qk_norm=family == "qwen3",
        qkv_bias=family == "qwen2",
        tie_embeddings=bool(fields.get("tie_word_embeddings", TENSORS["unembedding"] not in folder.tensor_names)),
    )


def _rope(fields: dict[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    """Base and scaling: in `rope_parameters` since transformers 5, in two fields before."""
    rope = fields.get("rope_parameters") or {
        **(fields.get("rope_scaling") or {}),
        "rope_theta": fields.get("rope_theta"),
    }
    if rope.get("rope_theta") is None:
        rope = {**rope, "rope_theta": fields.get("rope_theta") or 10_000.0}
    theta = _number(rope, "rope_theta", where)
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{where}: partial_rotary_factor={rope['partial_rotary_factor']} cannot be imported, only 1.0")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling("linear", _number(rope, "factor", where))
    if kind == "llama3":
        return theta, RopeScaling(
            "llama3",
            _number(rope, "factor", where),
            int(_number(rope, "original_max_position_embeddings", where)),
            _number(rope, "low_freq_factor", where),
            _number(rope, "high_freq_factor", where),
        )
    raise UserError(f"{where}: rope_type {kind!r} cannot be imported; known are default, linear, llama3")


def _number(fields: dict[str, Any], name: str, where: str) -> float:
    value = fields.get(name)
    if not isinstance(value, int | float) or not value > 0:
        raise UserError(f"{where}: {name}={value!r} is no number above 0: restore that file")
    return float(value)


def parameters(folder: SafetensorsFolder, config: ModelConfig) -> dict[str, Any]:
    """The parameter tree of `config`, float32 NumPy arrays."""
    unneeded = ("rotary_emb.inv_freq", *([TENSORS["unembedding"]] if config.tie_embeddings else []))
    return read_parameters(config, folder, TENSORS, unneeded=unneeded)


def licence(folder: SafetensorsFolder) -> str | None:
    """The licence that the model card (README.md) names in its front matter."""
    card = folder.path / "README.md"
    lines = card.read_text(errors="replace").splitlines() if card.is_file() else []
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            return None
        if line.startswith("license:"):
            return line.partition(":")[2].strip().strip("'\"") or None
    return None
