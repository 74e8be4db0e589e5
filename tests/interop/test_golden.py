"""The imported SmolLM2 is the model that `transformers` runs: same ids, same logits, same greedy text."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.model.decoder import Decoder, init_cache

GREEDY_TOKENS = 32
PROMPTS = (0, 1, 2)


@pytest.fixture(scope="module")
def golden(shared_data):
    return np.load(shared_data / "golden" / "smollm2_135m_instruct_q4_1.npz")


@pytest.fixture(scope="module")
def params(smollm2):
    return jax.tree.map(jnp.asarray, smollm2.params)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits_agree_with_transformers(smollm2, params, golden, prompt):
    decoder = Decoder(smollm2.config)
    ids = golden[f"ids_{prompt}"][None]
    hidden, _ = jax.jit(decoder.apply)({"params": params}, ids, np.arange(ids.shape[1])[None])
    logits = decoder.apply({"params": params}, hidden[0, -4:], method="unembed")
    assert np.abs(logits - golden[f"logits_{prompt}"]).max() < 1e-3


def test_greedy_text_is_the_same(smollm2, params, golden):
    """All prompts at once, through the cache: one padded prefill, then a token each."""
    decoder = Decoder(smollm2.config)
    prompts = [golden[f"ids_{prompt}"] for prompt in PROMPTS]
    lengths = np.array([len(ids) for ids in prompts])
    length = int(lengths.max())
    tokens = np.stack([np.pad(ids, (0, length - len(ids))) for ids in prompts])
    positions = np.broadcast_to(np.arange(length), tokens.shape)
    end = length + GREEDY_TOKENS
    # Padding is written past the cache, where it is dropped.
    positions = np.where(positions < lengths[:, None], positions, end)

    @partial(jax.jit, donate_argnums=3)
    def next_ids(params, tokens, positions, cache, last):
        hidden, cache = decoder.apply({"params": params}, tokens, positions, cache=cache)
        picked = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
        return decoder.apply({"params": params}, picked, method="unembed").argmax(-1), cache

    ids, cache = next_ids(params, tokens, positions, init_cache(smollm2.config, len(prompts), end), lengths - 1)
    answers = [np.asarray(ids)]
    for step in range(GREEDY_TOKENS - 1):
        ids, cache = next_ids(params, ids[:, None], lengths[:, None] + step, cache, np.zeros(len(prompts), int))
        answers.append(np.asarray(ids))
    for prompt, answer in zip(PROMPTS, np.stack(answers, axis=1), strict=True):
        assert answer.tolist() == golden[f"greedy_{prompt}"].tolist()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_tokenizer_gives_the_reference_ids(smollm2, golden, prompt):
    ids = golden[f"ids_{prompt}"].tolist()
    text = smollm2.tokenizer.decode(ids)
    assert smollm2.tokenizer.encode(text, allow_special=True) == ids


def test_facts_of_the_file(smollm2, smollm2_gguf):
    config = smollm2.config
    assert (config.num_layers, config.embed_dim, config.num_heads, config.num_kv_heads) == (30, 576, 9, 3)
    assert (config.mlp_dim, config.vocab_size, config.tie_embeddings) == (1536, 49152, True)
    assert (config.norm_eps, config.rope_theta) == (1e-5, 1e5)
    assert sum(x.size for x in jax.tree.leaves(smollm2.params)) == config.num_parameters
    assert {x.dtype for x in jax.tree.leaves(smollm2.params)} == {np.dtype(np.float32)}
    assert smollm2.source == str(smollm2_gguf)
    assert smollm2.licence == "apache-2.0"
    assert "<|im_start|>" in smollm2.tokenizer.chat_template
    assert smollm2.tokenizer.decode([smollm2.tokenizer.special.eos]) == "<|im_end|>"
