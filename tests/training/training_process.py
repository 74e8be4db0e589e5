"""One process of a training run. Arguments: what it is made from, the run's folder, devices, mesh, steps.

With FAIL_AT=STEP in the environment it fails after that step, as a process does whose disk is full; with HANG_AT=STEP
it hangs there, and HANG_SECONDS is the watchdog's patience. CHECKPOINT_EVERY defaults to 2 steps.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
from test_loop import CONFIG

from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.errors import PreemptedError, UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.sharding.messages import end_all, end_with_others
from demiurgic_jax.sharding.processes import start_processes
from demiurgic_jax.training.loop import train
from experiments.stages.cache import cache_folder

given, folder, devices, mesh, steps = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(devices))
jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "test-xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
start_processes(timeout_seconds=60)
if jax.distributed.is_initialized():
    end_with_others(lambda reason: print(reason, file=sys.stderr))
# With its usual eps, Adam makes a whole update of the rounding of a gradient near zero; other sums round otherwise.
config = replace(
    CONFIG,
    steps=int(steps),
    checkpoint_every=int(os.environ.get("CHECKPOINT_EVERY", "2")),
    hang_seconds=float(os.environ.get("HANG_SECONDS", "0")),
    mesh=MeshShape(**json.loads(mesh)),
    optimizer=replace(CONFIG.optimizer, eps=1e-4),
)
model = ModelConfig(400, 32, 2, 4, 2, 8, 48, max_context=64)


def on_step(step: int, metrics: object) -> None:
    if step == int(os.environ.get("FAIL_AT", "0")):
        raise UserError("no room here")
    if step == int(os.environ.get("HANG_AT", "0")):
        time.sleep(1000)


try:
    train(
        config,
        model,
        load_tokenizer(f"{given}/tokenizer"),
        ShardSet(f"{given}/train"),
        ShardSet(f"{given}/heldout"),
        folder=Path(folder),
        initial_params=lambda: init_params(Decoder(model), jax.random.key(0)),
        provenance={"teacher": "tests"},
        on_step=on_step,
    )
except Exception as error:
    status = 75 if isinstance(error, PreemptedError) else 2
    print(error, file=sys.stderr)
    end_all(status, str(error))
    sys.exit(status)
