"""The shape of a network, and the named sizes."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched past the context of pre-training.

    `linear` divides every frequency by `factor` (Chen et al. 2023, arXiv:2306.15595). `llama3` divides
    only wavelengths longer than original_context / low_freq_factor, leaves those shorter than
    original_context / high_freq_factor, and blends between (Llama 3.1 model card).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    original_context: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the parameters' shapes and what the network computes with them."""

    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    max_context: int = 4096
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    qk_norm: bool = False
    qkv_bias: bool = False
    tie_embeddings: bool = False
    # `rms` is RMSNorm, `rms_plus_one` the same with gains stored less one (Gemma), `layer` LayerNorm with its bias.
    norm: Literal["rms", "rms_plus_one", "layer"] = "rms"
    # `swiglu` and `geglu` gate by SiLU and by tanh-GELU (Shazeer 2020, arXiv:2002.05202); `gelu` has no gate.
    mlp: Literal["swiglu", "geglu", "gelu"] = "swiglu"
    # Whether the projections that qkv_bias does not speak of, attention's output and the MLP's, have biases.
    projection_bias: bool = False
    # What the embedding is multiplied by on its way into the first layer (not when it is the unembedding).
    embedding_scale: float = 1.0

    def __post_init__(self) -> None:
        for field in ("vocab_size", "embed_dim", "num_layers", "num_heads", "num_kv_heads", "head_dim", "mlp_dim"):
            if getattr(self, field) < 1:
                raise UserError(f"model.{field} is {getattr(self, field)}: give a whole number of at least 1")
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"model.num_heads={self.num_heads} is no multiple of model.num_kv_heads={self.num_kv_heads}: "
                "each key-value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise UserError(f"model.head_dim={self.head_dim} is odd: rotary embeddings turn pairs of channels")
        for field, known in (("norm", ("rms", "rms_plus_one", "layer")), ("mlp", ("swiglu", "geglu", "gelu"))):
            if getattr(self, field) not in known:
                raise UserError(f"model.{field}={getattr(self, field)!r} is unknown: choose one of {', '.join(known)}")

    @property
    def gated(self) -> bool:
        """Whether the MLP has a gate beside its up projection."""
        return self.mlp != "gelu"

    @property
    def num_parameters(self) -> int:
        """Trainable scalars, embeddings included (tied ones once)."""
        e, d = self.embed_dim, self.head_dim
        norm = 2 * e if self.norm == "layer" else e
        attention = 2 * e * d * (self.num_heads + self.num_kv_heads)
        if self.qkv_bias:
            attention += d * (self.num_heads + 2 * self.num_kv_heads)
        if self.qk_norm:
            attention += 2 * d
        wide = 2 if self.gated else 1
        mlp = (wide + 1) * e * self.mlp_dim
        if self.projection_bias:
            attention, mlp = attention + e, mlp + wide * self.mlp_dim + e
        layer = attention + mlp + 2 * norm
        return self.num_layers * layer + self.vocab_size * e * (1 if self.tie_embeddings else 2) + norm

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "model config") -> "ModelConfig":
        """The config that `to_dict` wrote. UserError when `where` has unknown or missing fields."""
        values = dict(values)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(f"{where} has the unknown field {unknown[0]!r}: known are {', '.join(sorted(known))}")
        if values.get("rope_scaling") is not None:
            values["rope_scaling"] = RopeScaling(**values["rope_scaling"])
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"{where} is incomplete: {error}") from error


# Llama-family shapes: 7b and 13b are Llama 2's, 34b and 70b are Code Llama's and Llama 2's.
NAMED_SIZES: Mapping[str, ModelConfig] = {
    "tiny": ModelConfig(4096, 128, 4, 4, 2, 32, 384, max_context=1024, tie_embeddings=True),
    "135m": ModelConfig(49152, 576, 30, 9, 3, 64, 1536, 8192, rope_theta=1e5, tie_embeddings=True),
    "1b": ModelConfig(32768, 2048, 16, 32, 8, 64, 8192, max_context=8192, rope_theta=5e5),
    "7b": ModelConfig(32000, 4096, 32, 32, 32, 128, 11008, max_context=4096),
    "13b": ModelConfig(32000, 5120, 40, 40, 40, 128, 13824, max_context=4096),
    "34b": ModelConfig(32000, 8192, 48, 64, 8, 128, 22016, max_context=16384, rope_theta=1e6),
    "70b": ModelConfig(32000, 8192, 80, 64, 8, 128, 28672, max_context=4096),
}


def named_config(name: str) -> ModelConfig:
    """The shape called `name`; UserError lists the known names."""
    if name not in NAMED_SIZES:
        raise UserError(f"model size {name!r} is unknown: choose one of {', '.join(NAMED_SIZES)}")
    return NAMED_SIZES[name]
