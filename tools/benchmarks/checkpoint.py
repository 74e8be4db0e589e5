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

import jax

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder
from demiurgic_jax.checkpoints.retention import Retention
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.training.state import TrainState
from tools.benchmarks.cpu_model import CONTEXT, MODEL, made_up_batch, on_one_device

TEXT = "def add(a, b):\n    return a + b\n\n\nfor number in range(10):\n    print(add(number, 1))\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="turns of each kind of window (default: %(default)s)")
    parser.add_argument("--window", type=int, default=4, help="steps of a window (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help=f"rows of {CONTEXT} tokens (default: %(default)s)")
    options = parser.parse_args()

    state, trained = on_one_device()
    batch = made_up_batch(options.batch)
    tokenizer = train_sentencepiece([TEXT * 20], 400)

    def run_steps(state: TrainState, count: int) -> TrainState:
        for _ in range(count):
            state = trained(state, batch)
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


if __name__ == "__main__":
    sys.exit(main())
