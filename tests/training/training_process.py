"""One process of a training run. Arguments: what it is made from, the run's folder, devices, mesh, steps.

With FAIL_AT=STEP in the environment it fails after that step, as a process does whose disk is full.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import jax
from test_loop import CONFIG

from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.sharding.messages import end_all, end_with_others
from demiurgic_jax.sharding.processes import start_processes
from demiurgic_jax.training.loop import train

given, folder, devices, mesh, steps = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(devices))
jax.config.update("jax_compilation_cache_dir", str(Path(given) / "xla"))
start_processes(timeout_seconds=60)
if jax.distributed.is_initialized():
    end_with_others(lambda reason: print(reason, file=sys.stderr))
# With its usual eps, Adam makes a whole update of the rounding of a gradient near zero; other sums round otherwise.
config = replace(
    CONFIG,
    steps=int(steps),
    checkpoint_every=2,
    mesh=MeshShape(**json.loads(mesh)),
    optimizer=replace(CONFIG.optimizer, eps=1e-4),
)
model = ModelConfig(400, 32, 2, 4, 2, 8, 48, max_context=64)


def on_step(step: int, metrics: object) -> None:
    if step == int(os.environ.get("FAIL_AT", "0")):
        raise UserError("no room here")


try:
    train(
        config,
        model,
        load_tokenizer(f"{given}/tokenizer"),
        ShardSet(f"{given}/train"),
        {"heldout": ShardSet(f"{given}/heldout")},
        folder=Path(folder),
        initial_params=lambda: init_params(Decoder(model), jax.random.key(0)),
        provenance={"teacher": "tests"},
        on_step=on_step,
    )
except Exception as error:
    print(error, file=sys.stderr)
    end_all(2, str(error))
    sys.exit(2)
