"""A small run with everything that `tools.show` looks at, made once, by the code that makes real ones."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.data.tokenizer import Tokenizer, save_tokenizer
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.loop import train
from experiments.configuration import as_dataclass, load_config
from experiments.workdir import Workdir

SETTINGS = [
    ("train.steps", "4"),
    ("train.batch_size", "8"),
    ("train.context", "64"),
    ("train.eval_every", "2"),
    ("train.checkpoint_every", "2"),
    ("train.keep_checkpoints", "2"),
    ("train.optimizer.warmup_steps", "1"),
    ("train.metrics.dollars_per_hour", "36.0"),
    ("train.metrics.tensorboard", "off"),
]


def documents(tokenizer: Tokenizer, count: int) -> list[Document]:
    """A question and its answer in turn with code."""
    made = []
    for number in range(count):
        question, answer = tokenizer.encode(f"Add {number}: "), tokenizer.encode(f"total = total + {number}\n")
        mask = np.repeat(np.array([0, 1], np.uint8), [len(question), len(answer)])
        tokens = np.array(question + answer, np.int32)
        made.append(Document(f"answer-{number}", "python", "explain", tokens, mask, licence="MIT"))
        made.append(Document(f"code-{number}", "rust", "code", np.array(answer, np.int32), licence="Apache-2.0"))
    return made


@pytest.fixture(scope="session")
def shown_run(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("shown") / "run"
    tokenizer = train_sentencepiece(["total = total + 7\nAdd 12: \nfor number in range(10):\n    pass\n" * 20], 380)
    config = load_config("quickstart_scratch", SETTINGS)
    Workdir(workdir, "quickstart_scratch", config)
    save_tokenizer(tokenizer, workdir / "tokenizer" / "files")
    made = {
        split: write_shards(
            workdir / "shards" / split,
            documents(tokenizer, count),
            tokenizer=tokenizer,
            num_shards=2,
            provenance={"a": 1},
        )
        for split, count in (("train", 40), ("heldout", 6))
    }
    model = ModelConfig(384, 32, 2, 4, 2, 8, 48, max_context=64)
    train(
        # The tests' eight devices have a row each.
        replace(as_dataclass(TrainConfig, config.train, "train"), mesh=MeshShape(data=8)),
        model,
        tokenizer,
        made["train"],
        {"heldout": made["heldout"]},
        folder=workdir / "train",
        initial_params=lambda: init_params(Decoder(model), jax.random.key(0)),
        provenance={"experiment": "shown"},
        on_step=lambda step, metrics: None,
    )
    return workdir
