"""The network of `transformers` that ours is measured against."""

from typing import Any

from demiurgic_jax.model.config import ModelConfig


def llama(c: ModelConfig, **settings: Any) -> Any:
    """A `LlamaForCausalLM` of the shape `c`, its weights random: speed does not depend on their values.

    ImportError where torch or `transformers` is missing.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.embed_dim,
            intermediate_size=c.mlp_dim,
            num_hidden_layers=c.num_layers,
            num_attention_heads=c.num_heads,
            num_key_value_heads=c.num_kv_heads,
            head_dim=c.head_dim,
            max_position_embeddings=c.max_context,
            rms_norm_eps=c.norm_eps,
            tie_word_embeddings=c.tie_embeddings,
            **settings,
        )
    )
