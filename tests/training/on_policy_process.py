"""A run that learns from its own samples. Arguments: what it is made from, the run's folder, devices, mesh, steps."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sampling.sampled_tokens import sampled_tokens
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.loop import train
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.metrics import MetricsConfig
from demiurgic_jax.training.on_policy import OnPolicyConfig
from demiurgic_jax.training.online_teacher import TeacherConfig, TeacherModel
from demiurgic_jax.training.optimizer import OptimizerConfig
from experiments.stages.cache import cache_folder

MODEL = ModelConfig(400, 32, 2, 4, 2, 8, 48, max_context=64)
TEACHER = ModelConfig(400, 48, 3, 4, 4, 12, 64, max_context=64, tie_embeddings=True)
CONFIG = TrainConfig(
    steps=8,
    batch_size=8,
    context=32,
    seed=3,
    checkpoint_every=2,
    eval_every=8,
    loss=LossConfig(0.7, chunk_tokens=16),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=0, eps=1e-4),
    teacher=TeacherConfig(online=True),
    metrics=MetricsConfig(tensorboard="off"),
    on_policy=OnPolicyConfig(fraction=0.5, prompt_tokens=8, max_tokens=8, divergence="reverse_kl"),
)


def run(given: Path, folder: Path, config: TrainConfig, *, on_step=lambda step, metrics: None) -> None:
    tokenizer = load_tokenizer(f"{given}/tokenizer")
    weights = jax.tree.map(np.asarray, init_params(Decoder(TEACHER), jax.random.key(7)))

    def sample(params, prompts, seed):
        own = config.on_policy
        return sampled_tokens(
            MODEL,
            jax.device_get(params),
            tokenizer,
            prompts,
            seed=seed,
            max_tokens=own.max_tokens,
            temperature=own.temperature,
            slots=4,
        )

    train(
        config,
        MODEL,
        tokenizer,
        ShardSet(f"{given}/train"),
        {"heldout": ShardSet(f"{given}/heldout")},
        folder=folder,
        initial_params=lambda: init_params(Decoder(MODEL), jax.random.key(0)),
        provenance={"teacher": "tests"},
        on_step=on_step,
        open_teacher=lambda: TeacherModel(TEACHER, weights, tokenizer),
        sample=sample,
    )


if __name__ == "__main__":
    given, folder, devices, mesh, steps = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", int(devices))
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "test-xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # A pause makes room for a signal between the steps of so small a model.
    config = replace(CONFIG, steps=int(steps), mesh=MeshShape(**json.loads(mesh)))
    run(Path(given), Path(folder), config, on_step=lambda step, metrics: time.sleep(0.2))
