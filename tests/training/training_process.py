"""One process of a training run. Arguments: what it is made from, the run's folder, devices, mesh, steps.

The environment may say more. FAIL_AT=STEP: it fails after that step, as one does whose disk is full. HANG_AT=STEP: it
hangs there; HANG_SECONDS is the watchdog's patience. PAUSE: seconds that it waits after each step. CHECKPOINT_EVERY
and EVAL_EVERY: 2 steps if not given. RECORD: a folder where a file of its own gets a line for every batch that it
reads, with its step, the first row of the batch that is its own, and CRC-32 of the tokens of its rows.
"""

import json
import os
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import jax
from test_loop import CONFIG

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.errors import PreemptedError, UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.sharding.messages import end_all, ended_with_others
from demiurgic_jax.sharding.processes import start_processes
from demiurgic_jax.training import loop
from demiurgic_jax.training.loop import train
from experiments.stages.cache import cache_folder

given, folder, devices, mesh, steps = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(devices))
jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "test-xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
start_processes(timeout_seconds=60)
# With its usual eps, Adam makes a whole update of the rounding of a gradient near zero; other sums round otherwise.
config = replace(
    CONFIG,
    steps=int(steps),
    checkpoint_every=int(os.environ.get("CHECKPOINT_EVERY", "2")),
    eval_every=int(os.environ.get("EVAL_EVERY", "2")),
    hang_seconds=float(os.environ.get("HANG_SECONDS", "0")),
    mesh=MeshShape(**json.loads(mesh)),
    optimizer=replace(CONFIG.optimizer, eps=1e-4),
)
model = ModelConfig(400, 32, 2, 4, 2, 8, 48, max_context=64)


class RecordingLoader(Loader):
    def batch(self, step: int, process_index: int = 0, process_count: int = 1) -> Batch:
        batch = super().batch(step, process_index, process_count)
        digests = [zlib.crc32(row.tobytes()) for row in batch.tokens]
        if self.batch_size > 1:  # else it is the held-out set's
            with (record / f"{os.getpid()}").open("a") as file:
                file.write(json.dumps([step, process_index * len(digests), *digests]) + "\n")
        return batch


if "RECORD" in os.environ:
    record = Path(os.environ["RECORD"])
    record.mkdir(exist_ok=True)
    loop.Loader = RecordingLoader  # type: ignore[misc]


def on_step(step: int, metrics: object) -> None:
    if step == int(os.environ.get("FAIL_AT", "0")):
        raise UserError("no room here")
    if step == int(os.environ.get("HANG_AT", "0")):
        time.sleep(1000)
    time.sleep(float(os.environ.get("PAUSE", "0")))


with ended_with_others(lambda reason: print(reason, file=sys.stderr)):
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
        status = 75 if isinstance(error, PreemptedError) else 2
        print(error, file=sys.stderr)
        end_all(status, str(error))
        sys.exit(status)
