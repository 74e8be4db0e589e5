"""A small real network with a real tokenizer: random weights answer as fast as they are meaningless."""

import dataclasses
from collections.abc import Iterator

import jax
import pytest

from demiurgic_jax.data.sentencepiece_tokenizer import SentencePieceTokenizer, train_sentencepiece
from demiurgic_jax.model.config import ModelConfig, named_config
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sampling.engine import Engine


@pytest.fixture(scope="session")
def tokenizer() -> SentencePieceTokenizer:
    text = "def add(a, b):\n    return a + b\n\n\nfor number in range(10):\n    print('Grüße, 世界', add(number, 1))\n"
    return train_sentencepiece([text * 20], 420)


@pytest.fixture(scope="session")
def config(tokenizer: SentencePieceTokenizer) -> ModelConfig:
    return dataclasses.replace(named_config("tiny"), vocab_size=tokenizer.vocab_size, num_layers=2)


@pytest.fixture(scope="session")
def params(config: ModelConfig, tokenizer: SentencePieceTokenizer) -> dict:
    params = init_params(Decoder(config), jax.random.key(0))
    # At its initial scale a network repeats its last token for ever; louder layers make it wander.
    layers = {name: value * 3 for name, value in params["layers"].items()}
    # Logits of 0 are never the largest: greedy answers of this network do not end by themselves.
    stops = jax.numpy.asarray(tokenizer.special.stops)
    return params | {"layers": layers, "embedding": params["embedding"].at[stops].set(0)}


@pytest.fixture(scope="session")
def engine(config: ModelConfig, params: dict, tokenizer: SentencePieceTokenizer) -> Iterator[Engine]:
    with Engine(config, params, tokenizer, slots=4) as engine:
        yield engine
