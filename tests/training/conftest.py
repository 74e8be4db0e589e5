import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import SentencePieceTokenizer, train_sentencepiece
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.data.soft_targets import truncate_top_p
from demiurgic_jax.data.tokenizer import save_tokenizer
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params

ENTRIES = 4


@pytest.fixture(scope="session")
def tokenizer() -> SentencePieceTokenizer:
    text = "def add(a, b):\n    return a + b\n\n\nfor number in range(10):\n    print(add(number, 1))\n"
    return train_sentencepiece([text * 20], 400)


@pytest.fixture(scope="session")
def model(tokenizer: SentencePieceTokenizer) -> ModelConfig:
    return ModelConfig(400, 32, 2, 4, 2, 8, 48, max_context=64)


@pytest.fixture(scope="session")
def params(model: ModelConfig):
    return jax.tree.map(np.asarray, init_params(Decoder(model), jax.random.key(0)))


def documents(count: int, seed: int) -> list[Document]:
    """Sequences with a pattern to learn, half of them with a teacher."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        length = int(rng.integers(8, 40))
        tokens = (int(rng.integers(0, 400)) + 7 * np.arange(length)) % 400
        soft = None
        if index % 2:
            ids = np.stack([np.roll(tokens, -1), *rng.integers(0, 400, (ENTRIES, length))], axis=1)
            ids[:, 1:] = (ids[:, :1] + 1 + np.arange(ENTRIES)) % 400
            logprobs = np.log(np.broadcast_to([0.7, 0.1, 0.05, 0.05, 0.02], ids.shape))
            soft = truncate_top_p(ids, logprobs, 0.95)
        mask = (np.arange(length) >= 4).astype(np.uint8) if index % 3 else None
        made.append(
            Document(f"{seed}-{index}", "python", "complete", tokens, loss_mask=mask, soft_targets=soft, licence="MIT")
        )
    return made


@pytest.fixture(scope="session")
def train_set(tokenizer, tmp_path_factory) -> ShardSet:
    folder: Path = tmp_path_factory.mktemp("shards") / "train"
    return write_shards(
        folder, documents(150, seed=0), tokenizer=tokenizer, num_shards=2, provenance={"source": "tests"}
    )


@pytest.fixture(scope="session")
def heldout_set(tokenizer, tmp_path_factory) -> ShardSet:
    folder: Path = tmp_path_factory.mktemp("shards") / "heldout"
    return write_shards(
        folder, documents(20, seed=1), tokenizer=tokenizer, num_shards=1, provenance={"source": "tests"}
    )


@pytest.fixture(scope="module")
def given(tmp_path_factory, tokenizer, train_set, heldout_set) -> Path:
    """A folder with all that tests/training/training_process.py trains from."""
    folder = tmp_path_factory.mktemp("given")
    save_tokenizer(tokenizer, folder / "tokenizer")
    shutil.copytree(train_set.folder, folder / "train")
    shutil.copytree(heldout_set.folder, folder / "heldout")
    return folder
