"""A Llama forward pass in float64 NumPy, over Hugging Face's names: an opinion of its own on what is right."""

from typing import Any

import numpy as np


def logits(config: dict[str, Any], tensors: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """[S, V] of one sequence."""
    w = {name: value.astype(np.float64) for name, value in tensors.items()}
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    eps = config["rms_norm_eps"]
    x = w["model.embed_tokens.weight"][ids]
    for index in range(config["num_hidden_layers"]):
        p = f"model.layers.{index}."
        h = _norm(x, w[p + "input_layernorm.weight"], eps)
        q, k, v = (
            (h @ w[f"{p}self_attn.{name}_proj.weight"].T + w.get(f"{p}self_attn.{name}_proj.bias", 0)).reshape(
                len(ids), count, head_dim
            )
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        if config["model_type"] == "qwen3":
            q = _norm(q, w[p + "self_attn.q_norm.weight"], eps)
            k = _norm(k, w[p + "self_attn.k_norm.weight"], eps)
        q, k = _rotate(q, config["rope_theta"]), _rotate(k, config["rope_theta"])
        mixed = np.zeros_like(q)
        for head in range(heads):
            group = head * kv_heads // heads
            for position in range(len(ids)):
                scores = k[: position + 1, group] @ q[position, head] / np.sqrt(head_dim)
                weights = np.exp(scores - scores.max())
                mixed[position, head] = weights / weights.sum() @ v[: position + 1, group]
        x = x + mixed.reshape(len(ids), -1) @ w[p + "self_attn.o_proj.weight"].T
        h = _norm(x, w[p + "post_attention_layernorm.weight"], eps)
        gate = h @ w[p + "mlp.gate_proj.weight"].T
        up = h @ w[p + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[p + "mlp.down_proj.weight"].T
    unembedding = w["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"]
    return _norm(x, w["model.norm.weight"], eps) @ unembedding.T


def _norm(x: np.ndarray, scale: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * scale


def _rotate(x: np.ndarray, theta: float) -> np.ndarray:
    """Each pair (i, i + D/2) as a complex number, turned."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)[:, None]
    return np.concatenate([turned.real, turned.imag], axis=-1)
