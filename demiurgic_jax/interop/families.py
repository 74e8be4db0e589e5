"""Whose models come in and go out: a table of names for each family, one row a parameter, read in both directions.

Hugging Face and GGUF store a matrix as [out, in], one tensor a layer; ours are [in, out] with the heads on an axis of
their own, and layers stacked. A row says all that is needed to go from one to the other.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig


class Row(NamedTuple):
    """One parameter: our name of it, Hugging Face's and GGUF's, with {} for the layer.

    `reads`: how many leading axes of our matrix it reads from; 0 where the values lie as they are stored.
    `rotary`: its outputs are rotated. llama.cpp's `llama` has the two channels of a rotated pair side by side, all
    others have them half a head apart. `gguf_adds`: by how much GGUF's values are greater.
    """

    ours: str
    huggingface: str
    gguf: str
    reads: int = 0
    rotary: bool = False
    gguf_adds: float = 0.0


_NETWORK = (
    Row("embedding", "model.embed_tokens.weight", "token_embd.weight"),
    Row("unembedding", "lm_head.weight", "output.weight"),
)
_ATTENTION = (
    Row("wq", "model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", reads=1, rotary=True),
    Row("wk", "model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight", reads=1, rotary=True),
    Row("wv", "model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight", reads=1),
    Row("wo", "model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight", reads=2),
)
_QKV_BIAS = (
    Row("bq", "model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias"),
    Row("bk", "model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias"),
    Row("bv", "model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"),
)
_QK_NORM = (
    Row("q_norm", "model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"),
    Row("k_norm", "model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"),
)
_NORMS = (
    Row("attention_norm", "model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    Row("mlp_norm", "model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"),
    Row("final_norm", "model.norm.weight", "output_norm.weight"),
)
_NORMS_PLUS_ONE = (
    Row("attention_norm", "model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", gguf_adds=1.0),
    Row("mlp_norm", "model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight", gguf_adds=1.0),
    Row("final_norm", "model.norm.weight", "output_norm.weight", gguf_adds=1.0),
)
_NORM_BIAS = (
    Row("attention_norm_bias", "model.layers.{}.input_layernorm.bias", "blk.{}.attn_norm.bias"),
    Row("mlp_norm_bias", "model.layers.{}.post_attention_layernorm.bias", "blk.{}.ffn_norm.bias"),
    Row("final_norm_bias", "model.norm.bias", "output_norm.bias"),
)
_GATED_MLP = (
    Row("w_gate", "model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", reads=1),
    Row("w_up", "model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight", reads=1),
    Row("w_down", "model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", reads=1),
)
_PLAIN_MLP = (
    Row("w_up", "model.layers.{}.mlp.c_fc.weight", "blk.{}.ffn_up.weight", reads=1),
    Row("w_down", "model.layers.{}.mlp.c_proj.weight", "blk.{}.ffn_down.weight", reads=1),
)
_PROJECTION_BIAS = (
    Row("bo", "model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias"),
    Row("b_up", "model.layers.{}.mlp.c_fc.bias", "blk.{}.ffn_up.bias"),
    Row("b_down", "model.layers.{}.mlp.c_proj.bias", "blk.{}.ffn_down.bias"),
)

_LLAMA = (*_NETWORK, *_NORMS, *_ATTENTION, *_GATED_MLP)
_GEMMA = (*_NETWORK, *_NORMS_PLUS_ONE, *_ATTENTION, *_GATED_MLP)
_STARCODER2 = (
    *(*_NETWORK, *_NORMS, *_NORM_BIAS, *_ATTENTION, *_QKV_BIAS),
    *(*_PLAIN_MLP, *_PROJECTION_BIAS),
)


@dataclass(frozen=True)
class Family:
    """`name` is config.json's model_type, `architecture` the class of `transformers`, `gguf` GGUF's architecture.

    `features` are the fields of ModelConfig that set the family apart from Llama. `rotary_pairs`: GGUF keeps the
    channels of a rotated pair side by side. `fixed`: field of config.json → the values that the decoder computes, the
    first of which is written.
    """

    name: str
    architecture: str
    gguf: str
    rows: tuple[Row, ...]
    features: Mapping[str, Any]
    fixed: Mapping[str, tuple[Any, ...]]
    rotary_pairs: bool = False
    norm_eps: str = "rms_norm_eps"
    # What `transformers` takes where config.json says nothing.
    head_dim: int | None = None

    def model_features(self, embed_dim: int) -> dict[str, Any]:
        """`features` for a network of that width."""
        features = dict(self.features)
        if features.pop("scaled_embedding", False):
            features["embedding_scale"] = math.sqrt(embed_dim)
        return features


_SILU = {"hidden_act": ("silu", "swish"), "attention_bias": (False, None), "mlp_bias": (False, None)}
_GEMMA_FIXED = {
    # Gemma's first releases say gelu and mean its tanh approximation.
    "hidden_act": ("gelu_pytorch_tanh", "gelu"),
    "hidden_activation": ("gelu_pytorch_tanh", None),
    "attention_bias": (False, None),
    "use_bidirectional_attention": (False, None),
}
_STARCODER2_FIXED = {
    "hidden_act": ("gelu_pytorch_tanh",),
    "use_bias": (True,),
    "mlp_type": ("default",),
    "norm_type": ("layer_norm",),
}

# In the order in which a network of ours is taken for one of them: what Mistral computes is Llama.
FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("llama", "LlamaForCausalLM", "llama", _LLAMA, {}, _SILU, rotary_pairs=True),
        Family("mistral", "MistralForCausalLM", "llama", _LLAMA, {}, _SILU, rotary_pairs=True),
        Family("qwen2", "Qwen2ForCausalLM", "qwen2", (*_LLAMA, *_QKV_BIAS), {"qkv_bias": True}, _SILU),
        Family("qwen3", "Qwen3ForCausalLM", "qwen3", (*_LLAMA, *_QK_NORM), {"qk_norm": True}, _SILU, head_dim=128),
        Family(
            *("gemma", "GemmaForCausalLM", "gemma", _GEMMA),
            {"norm": "rms_plus_one", "mlp": "geglu", "scaled_embedding": True},
            _GEMMA_FIXED,
            head_dim=256,
        ),
        Family(
            *("starcoder2", "Starcoder2ForCausalLM", "starcoder2", _STARCODER2),
            {"norm": "layer", "mlp": "gelu", "qkv_bias": True, "projection_bias": True},
            _STARCODER2_FIXED,
            norm_eps="norm_epsilon",
        ),
    )
}

_FEATURES = ("norm", "mlp", "qkv_bias", "qk_norm", "projection_bias", "embedding_scale")


def family_of(config: ModelConfig) -> Family:
    """The family whose network this is. UserError, naming the fields, where no family has them together."""
    for family in FAMILIES.values():
        plain = {name: getattr(ModelConfig, name) for name in _FEATURES}
        wanted = plain | family.model_features(config.embed_dim)
        if all(_same(getattr(config, name), wanted[name]) for name in _FEATURES):
            return family
    unusual = [f"{name}={getattr(config, name)!r}" for name in _FEATURES]
    raise UserError(
        f"no family that others know has a network with {', '.join(unusual)}: known are {', '.join(FAMILIES)}"
    )


def _same(found: Any, wanted: Any) -> bool:
    return math.isclose(found, wanted, rel_tol=1e-6) if isinstance(wanted, float) else found == wanted
