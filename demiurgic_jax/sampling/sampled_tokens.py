"""Completions as tokens, for those who go on working with tokens."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.data.order import hashed
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.engine import Engine


def sampled_tokens(
    config: ModelConfig,
    params: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    seed: int,
    max_tokens: int,
    temperature: float = 1.0,
    slots: int = 8,
    max_context: int | None = None,
    compute_dtype: Any = jnp.float32,
) -> list[list[int]]:
    """What follows each of the `prompts` (token ids, at least one each): at most `max_tokens` ids, a stop token among
    them where one was drawn. A function of its arguments: the same ones give the same tokens, in any process."""
    request = CompletionRequest(prompt="", max_tokens=max_tokens, temperature=temperature)
    with Engine(config, params, tokenizer, slots=slots, max_context=max_context, compute_dtype=compute_dtype) as engine:
        streams = [
            engine.submit_tokens(prompt, request, seed=int(hashed(seed, number)[0]) % 2**32)
            for number, prompt in enumerate(prompts)
        ]
        for stream in streams:
            for _ in stream:
                pass
    return [list(stream.tokens) for stream in streams]
