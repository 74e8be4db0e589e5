"""A Llama of a few thousand parameters as a GGUF file, written by the `gguf` library."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from demiurgic_jax.data.huggingface_tokenizer import _byte_alphabet
from demiurgic_jax.model.config import ModelConfig

CONFIG = ModelConfig(259, 32, 2, 4, 2, 8, 64, max_context=128, rope_theta=5e4, norm_eps=1e-6)

STORED = {
    "attention_norm": "attn_norm",
    "wq": "attn_q",
    "wk": "attn_k",
    "wv": "attn_v",
    "wo": "attn_output",
    "mlp_norm": "ffn_norm",
    "w_gate": "ffn_gate",
    "w_up": "ffn_up",
    "w_down": "ffn_down",
}


def interleaved(matrix_OI: np.ndarray, heads: int) -> np.ndarray:
    """[out, in] with channel pairs (i, i + D/2) to llama.cpp's order, where a pair lies side by side."""
    head_dim = len(matrix_OI) // heads
    order = [half * head_dim // 2 + pair for pair in range(head_dim // 2) for half in (0, 1)]
    return np.concatenate([head[order] for head in np.split(matrix_OI, heads)])


def write_small_gguf(
    path: Path,
    params: dict,
    kinds: dict[str, gguf.GGMLQuantizationType],
    more: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
) -> None:
    """Writes `params`, a tree of CONFIG, with the block format `kinds` names for some parameters; `more` adds to it."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(CONFIG.num_layers)
    writer.add_context_length(CONFIG.max_context)
    writer.add_embedding_length(CONFIG.embed_dim)
    writer.add_feed_forward_length(CONFIG.mlp_dim)
    writer.add_head_count(CONFIG.num_heads)
    writer.add_head_count_kv(CONFIG.num_kv_heads)
    writer.add_rope_freq_base(CONFIG.rope_theta)
    writer.add_layer_norm_rms_eps(CONFIG.norm_eps)
    writer.add_license("mit")
    _add_vocabulary(writer)

    def add(name: str, value: np.ndarray, kind: gguf.GGMLQuantizationType | None) -> None:
        if kind is None:
            writer.add_tensor(name, np.ascontiguousarray(value))
        else:
            writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(value), kind), raw_dtype=kind)

    add("token_embd.weight", params["embedding"], kinds.get("embedding"))
    add("output.weight", params["unembedding"], kinds.get("unembedding"))
    add("output_norm.weight", params["final_norm"], None)
    for ours, theirs in STORED.items():
        for index, value in enumerate(params["layers"][ours]):
            inputs = 2 if ours == "wo" else 1
            stored = value if value.ndim == 1 else value.reshape(int(np.prod(value.shape[:inputs])), -1).T
            if ours in ("wq", "wk"):
                stored = interleaved(stored, value.shape[1])
            add(f"blk.{index}.{theirs}.weight", stored, kinds.get(ours))
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    tokens = [*_byte_alphabet(), "ab", "abc", "<|end|>"]
    assert len(tokens) == CONFIG.vocab_size
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 258 + [3])
    writer.add_token_merges(["a b", "ab c"])
    writer.add_eos_token_id(258)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}<|end|>")
