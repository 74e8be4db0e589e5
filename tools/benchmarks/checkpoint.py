"""The time that a training step loses to a checkpoint written beside it.

    python -m tools.benchmarks.checkpoint [--rounds=6] [--batch=8]

Windows of steps with a save at their beginning and windows without one take turns, so that a busy machine slows both
alike; each window is long enough for the save to end within it. Printed are medians: a step, the wait for `save` to
return (the arrays may be changed from then on), and all that a window with a save takes longer, as shares of a step.
"""

import argparse
import statistics
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder
from demiurgic_jax.checkpoints.retention import Retention
from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sharding.layout import layout_on
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.placement import put_batch
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.optimizer import OptimizerConfig, make_optimizer
from demiurgic_jax.training.state import abstract_state, new_state
from demiurgic_jax.training.step import make_train_step

CONTEXT = 512
# d 256 × 6 layers, the CPU benchmark model.
MODEL = ModelConfig(8192, 256, 6, 4, 4, 64, 1024, max_context=CONTEXT)
TEXT = "def add(a, b):\n    return a + b\n\n\nfor number in range(10):\n    print(add(number, 1))\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="turns of each kind of window (default: %(default)s)")
    parser.add_argument("--window", type=int, default=4, help="steps of a window (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help=f"rows of {CONTEXT} tokens (default: %(default)s)")
    options = parser.parse_args()

    mesh = make_mesh(MeshShape(fsdp=1), jax.devices()[:1])
    decoder = Decoder(MODEL, remat="none", layout=layout_on(mesh))
    optimizer = make_optimizer(OptimizerConfig(), 10_000)
    abstract = abstract_state(MODEL, optimizer, mesh)
    step = make_train_step(decoder, optimizer, LossConfig(), mesh, abstract)
    state = new_state(init_params(decoder, jax.random.key(0)), abstract, optimizer)
    batch = put_batch(made_up_batch(options.batch), mesh)
    tokenizer = train_sentencepiece([TEXT * 20], 400)

    def run_steps(state: Any, count: int) -> Any:
        for _ in range(count):
            state, metrics = step(state, batch)
            jax.device_get(metrics)
        return state

    state = run_steps(state, 2)
    plain, saving, calls = [], [], []
    with tempfile.TemporaryDirectory() as folder, CheckpointFolder(folder, Retention(last=1)) as checkpoints:
        for turn in range(options.rounds + 1):
            began = time.perf_counter()
            state = run_steps(state, options.window)
            between = time.perf_counter()
            checkpoints.save(turn, state.params, tokenizer, Card(MODEL), state.opt_state)
            returned = time.perf_counter()
            state = run_steps(state, options.window)
            ended = time.perf_counter()
            checkpoints.wait()
            if turn:  # the first one compiles the digests
                plain.append(between - began)
                saving.append(ended - between)
                calls.append(returned - between)
            if time.perf_counter() - ended > 0.1:
                print("a save outlasted its window: give more --window", file=sys.stderr)
    seconds = statistics.median(plain) / options.window
    lost = statistics.median(after - before for before, after in zip(plain, saving, strict=True))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    print(f"a step {seconds:.3f} s, a checkpoint {size / 1e6:,.0f} MB")
    print(f"save returns after {statistics.median(calls):.3f} s ({statistics.median(calls) / seconds:.1%} of a step)")
    print(f"lost in all {lost:.3f} s ({lost / seconds:.1%} of a step)")
    return 0


def made_up_batch(rows: int) -> Batch:
    tokens = np.random.default_rng(0).integers(0, MODEL.vocab_size, (rows, CONTEXT)).astype(np.int32)
    positions = np.tile(np.arange(CONTEXT, dtype=np.int32), (rows, 1))
    ones = np.ones((rows, CONTEXT), np.int32)
    return Batch(tokens, np.roll(tokens, -1, 1), positions, ones, ones.astype(np.float32), None, None)


if __name__ == "__main__":
    sys.exit(main())
