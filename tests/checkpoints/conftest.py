import jax
import numpy as np
import pytest

from demiurgic_jax.data.sentencepiece_tokenizer import SentencePieceTokenizer, train_sentencepiece
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return ModelConfig(400, 32, 2, 4, 2, 8, 48, max_context=64)


@pytest.fixture(scope="session")
def tokenizer() -> SentencePieceTokenizer:
    text = "def add(a, b):\n    return a + b\n\n\nfor number in range(10):\n    print(add(number, 1))\n"
    return train_sentencepiece([text * 20], 400)


@pytest.fixture(scope="session")
def params(config: ModelConfig):
    return jax.tree.map(np.asarray, init_params(Decoder(config), jax.random.key(0)))
