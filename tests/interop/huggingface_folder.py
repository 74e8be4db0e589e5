"""Hugging Face model folders as their users have them, written here without `transformers`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from demiurgic_jax.data.huggingface_tokenizer import _byte_alphabet

VOCAB_SIZE = 260

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5e5,
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}


def llama_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under Hugging Face's names, [out, in]."""
    rng = np.random.default_rng(seed)
    embed, mlp, head_dim = 32, 48, config.get("head_dim") or 8
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCAB_SIZE, embed),
        "model.norm.weight": (embed,),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (VOCAB_SIZE, embed)
    for index in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{index}."
        for name, width in (("q", q), ("k", kv), ("v", kv)):
            shapes[f"{prefix}self_attn.{name}_proj.weight"] = (width, embed)
            if config["model_type"] == "qwen2":
                shapes[f"{prefix}self_attn.{name}_proj.bias"] = (width,)
        if config["model_type"] == "qwen3":
            shapes |= {f"{prefix}self_attn.{name}_norm.weight": (head_dim,) for name in "qk"}
        shapes[f"{prefix}self_attn.o_proj.weight"] = (embed, q)
        shapes |= {f"{prefix}mlp.{name}_proj.weight": (mlp, embed) for name in ("gate", "up")}
        shapes[f"{prefix}mlp.down_proj.weight"] = (embed, mlp)
        shapes |= {f"{prefix}{name}_layernorm.weight": (embed,) for name in ("input", "post_attention")}
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def write_folder(folder: Path, config: dict[str, Any], tensors: dict[str, np.ndarray], *, shards: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[shard::shards])
        save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_tokenizer(folder: Path) -> None:
    """Byte-level: 256 bytes, one marker, one piece of two bytes."""
    vocab = {character: byte for byte, character in enumerate(_byte_alphabet())} | {"ab": 257}
    definition = {
        "version": "1.0",
        "added_tokens": [
            {"id": 256, "content": "<|end|>", "special": True, "single_word": False}
            | {"lstrip": False, "rstrip": False, "normalized": False}
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]]},
    }
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
