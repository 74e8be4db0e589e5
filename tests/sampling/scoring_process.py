"""Scores the shards in GIVEN/source into FOLDER with a small teacher, slowly enough to be killed.

python scoring_process.py GIVEN FOLDER INDEX COUNT
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.scoring import ScoringConfig, score_shards

given, folder, index, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config = ModelConfig.from_dict(json.loads((given / "model.json").read_text()))
with np.load(given / "params.npz") as stored:
    layers = {name.removeprefix("layers."): stored[name] for name in stored.files if name.startswith("layers.")}
    params = {name: stored[name] for name in stored.files if not name.startswith("layers.")} | {"layers": layers}


def report(tokens: int) -> None:
    print(tokens, flush=True)
    time.sleep(0.02)


score_shards(
    ShardSet(given / "source"),
    folder,
    config,
    params,
    load_tokenizer(given / "tokenizer"),
    ScoringConfig(8, 0.95, 64, batch_tokens=128, kind="sampled"),
    teacher="small",
    part=(index, count),
    progress=report,
)
