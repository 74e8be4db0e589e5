"""Saves step 1, says so, then saves step 2 again and again until it is killed. Arguments: folder, tokenizer folder."""

import sys

import jax
import numpy as np

from demiurgic_jax.checkpoints.checkpoint import Card, CheckpointFolder
from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params

folder, tokenizer_folder = sys.argv[1:]
config = ModelConfig(400, 256, 8, 4, 2, 64, 1024, max_context=64)
params = jax.tree.map(np.asarray, init_params(Decoder(config), jax.random.key(0)))
tokenizer = load_tokenizer(tokenizer_folder)
with CheckpointFolder(folder) as checkpoints:
    checkpoints.save(1, params, tokenizer, Card(config, "first"))
    checkpoints.wait()
    print("saved", flush=True)
    for step in range(2, 1000):
        checkpoints.save(step, params, tokenizer, Card(config, "later"))
