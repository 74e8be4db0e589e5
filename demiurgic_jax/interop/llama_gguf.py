"""Llama-family models from GGUF: shape, parameters and tokenizer."""

import json
import math
from typing import Any

import numpy as np

from demiurgic_jax.data.huggingface_tokenizer import HuggingFaceTokenizer
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.gguf_file import GgufFile
from demiurgic_jax.interop.llama_layout import read_parameters
from demiurgic_jax.model.config import ModelConfig, RopeScaling

# Our name → GGUF's, with {} for the layer.
TENSORS = {
    "embedding": "token_embd.weight",
    "unembedding": "output.weight",
    "final_norm": "output_norm.weight",
    "attention_norm": "blk.{}.attn_norm.weight",
    "wq": "blk.{}.attn_q.weight",
    "wk": "blk.{}.attn_k.weight",
    "wv": "blk.{}.attn_v.weight",
    "wo": "blk.{}.attn_output.weight",
    "mlp_norm": "blk.{}.ffn_norm.weight",
    "w_gate": "blk.{}.ffn_gate.weight",
    "w_up": "blk.{}.ffn_up.weight",
    "w_down": "blk.{}.ffn_down.weight",
}


def model_config(file: GgufFile) -> ModelConfig:
    """The shape that the file's metadata describes."""
    if (architecture := file.require("general.architecture", str)) != "llama":
        raise UserError(f"{file.path} holds a {architecture!r} model: only the llama architecture can be imported")
    heads = file.require("llama.attention.head_count", int)
    embed = file.require("llama.embedding_length", int)
    return ModelConfig(
        vocab_size=len(file.require("tokenizer.ggml.tokens", list)),
        embed_dim=embed,
        num_layers=file.require("llama.block_count", int),
        num_heads=heads,
        num_kv_heads=file.get("llama.attention.head_count_kv", heads),
        head_dim=file.get("llama.attention.key_length", embed // max(heads, 1)),
        mlp_dim=file.require("llama.feed_forward_length", int),
        max_context=file.require("llama.context_length", int),
        rope_theta=_positive(file, "llama.rope.freq_base") if "llama.rope.freq_base" in file.metadata else 10_000.0,
        rope_scaling=_rope_scaling(file),
        norm_eps=_positive(file, "llama.attention.layer_norm_rms_epsilon"),
        tie_embeddings=TENSORS["unembedding"] not in file.tensor_names,
    )


def _rope_scaling(file: GgufFile) -> RopeScaling | None:
    kind = file.get("llama.rope.scaling.type", "none")
    if kind == "linear":
        return RopeScaling("linear", _positive(file, "llama.rope.scaling.factor"))
    if kind != "none" or "rope_freqs.weight" in file.tensor_names:
        raise UserError(f"{file.path} scales its rotary frequencies in a way that cannot be imported from GGUF yet")
    return None


def _positive(file: GgufFile, key: str) -> float:
    """The number that was meant: 1e-5 stored as float32 reads back as 9.99999974e-06."""
    stored = file.require(key, float)
    if not 0 < stored < math.inf:
        raise UserError(f"{file.path}: metadata field {key!r} is {stored}: the file is damaged, fetch it again")
    return float(np.format_float_positional(np.float32(stored)))


def parameters(file: GgufFile, config: ModelConfig) -> dict[str, Any]:
    """The parameter tree of `config`, float32 NumPy arrays."""

    def reorder(name: str, value: np.ndarray) -> np.ndarray:
        if name == "wq":
            return _from_interleaved(value, config.num_heads)
        return _from_interleaved(value, config.num_kv_heads) if name == "wk" else value

    return read_parameters(config, file, TENSORS, reorder=reorder)


def _from_interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """[heads · D, E] in llama.cpp's rotary order (pairs 2i, 2i+1) to ours (pairs i, i + D/2)."""
    out, embed = rows.shape
    return rows.reshape(heads, out // heads // 2, 2, embed).swapaxes(1, 2).reshape(out, embed)


_CONTROL_TOKEN = 3  # llama.cpp's LLAMA_TOKEN_TYPE_CONTROL

# `tokenizer.ggml.pre` → the `tokenizers` pre-tokenizer that cuts text before the byte-level alphabet.
_PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}],
    "starcoder": [{"type": "Digits", "individual_digits": True}],
    "codeshell": [{"type": "Digits", "individual_digits": True}],
    "refact": [{"type": "Digits", "individual_digits": True}],
    "gpt-2": [],
    "default": [],
}


def tokenizer(file: GgufFile) -> Tokenizer:
    """The byte-level BPE tokenizer inside the file, as a Hugging Face `tokenizers` one."""
    if (kind := file.require("tokenizer.ggml.model", str)) != "gpt2":
        raise UserError(
            f"{file.path} has a {kind!r} vocabulary: only byte-level BPE ('gpt2') can be imported from GGUF"
        )
    tokens = file.require("tokenizer.ggml.tokens", list)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"), ("unk_token", "unknown")):
        if (index := file.get(f"tokenizer.ggml.{key}_token_id", -1)) >= 0:
            if index >= len(tokens):
                raise UserError(f"{file.path} names the {key} token {index} of {len(tokens)}: fetch the file again")
            config[name] = tokens[index]
    if template := file.get("tokenizer.chat_template", ""):
        config["chat_template"] = template
    files = {
        "tokenizer.json": json.dumps(_tokenizer_definition(file, tokens), ensure_ascii=False).encode(),
        "tokenizer_config.json": json.dumps(config, ensure_ascii=False, indent=2).encode(),
    }
    return HuggingFaceTokenizer.from_files(files, str(file.path))


def _tokenizer_definition(file: GgufFile, tokens: list[str]) -> dict[str, Any]:
    """The content of tokenizer.json."""
    pre = file.get("tokenizer.ggml.pre", "default")
    if pre not in _PRE_TOKENIZERS:
        raise UserError(f"{file.path} cuts text the {pre!r} way: known are {', '.join(_PRE_TOKENIZERS)}")
    types = file.require("tokenizer.ggml.token_type", list)
    if not len(set(map(str, tokens))) == len(tokens) == len(types) or not all(
        isinstance(token, str) for token in tokens
    ):
        raise UserError(f"{file.path} has a vocabulary that contradicts itself: the file is damaged, fetch it again")
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": [str(merge).split(" ") for merge in file.require("tokenizer.ggml.merges", list)],
    }
    text = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, "special": True, **text}
            for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind == _CONTROL_TOKEN
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*_PRE_TOKENIZERS[pre], byte_level]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": model,
    }
