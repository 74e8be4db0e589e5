"""The loader: how fast it reads and packs, beside tf.data on the same TFRecords; how soon a large set is ready; how
long training waits for it.

    python -m tools.benchmarks.loader                 tokens per second, in turns, and the ratio of the medians
    python -m tools.benchmarks.loader --startup       opening and planning ten million documents of made-up lengths
    python -m tools.benchmarks.loader --training      the share of a step's time in which it waits for its batch

Without TensorFlow (extra `[tfds]`) the first measures the loader alone. Records hold random tokens, their lengths are
log-normal as those of source files are (median 400 tokens, mean 800). tf.data reads with two threads; what it packs is
what it can pack fastest: hundreds of documents laid end to end at once, with segments, positions and targets.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shard_index import ShardIndex, ShardSummary, write_index
from demiurgic_jax.data.shards import ShardSet, ShardSetWriter, write_shards
from demiurgic_jax.data.tokenizer import Tokenizer

VOCAB_SIZE = 49_152
SHARDS = 4


class Vocabulary:
    """What the writer asks of a tokenizer."""

    fingerprint = "benchmark"
    vocab_size = VOCAB_SIZE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--startup", action="store_true", help="measure the start instead of the reading")
    parser.add_argument("--training", action="store_true", help="measure the wait beside a small network's training")
    parser.add_argument("--documents", type=int, default=0, help="default: 25,000, or ten million with --startup")
    parser.add_argument("--row-length", type=int, default=2048, help="tokens of a row (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a batch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: %(default)s)")
    parser.add_argument("--open", help=argparse.SUPPRESS)  # what the process does that --startup starts
    options = parser.parse_args()
    if options.open:
        open_and_plan(options.open, options.row_length, options.batch_size)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        if options.startup:
            folder = made_up_set(Path(scratch), options.documents or 10_000_000)
            arguments = [f"--open={folder}", f"--row-length={options.row_length}", f"--batch-size={options.batch_size}"]
            subprocess.run([sys.executable, "-m", "tools.benchmarks.loader", *arguments], check=True)
        elif options.training:
            train(random_set(Path(scratch), options.documents or 25_000), options.batch_size, options.rounds)
        else:
            shard_set = random_set(Path(scratch), options.documents or 25_000)
            contestants = {"loader": ours(shard_set, options.row_length, options.batch_size)}
            contestants |= tf_data(shard_set, options.row_length, options.batch_size)
            report(contestants, options.rounds)
    return 0


def lengths_of(count: int) -> np.ndarray:
    return np.clip(np.random.default_rng(0).lognormal(6, 1.2, count), 1, 16_384).astype(np.int32)


def random_set(folder: Path, count: int) -> ShardSet:
    rng = np.random.default_rng(1)
    documents = [
        Document(f"document-{i}", "python", "code", rng.integers(0, VOCAB_SIZE, n), licence="MIT")
        for i, n in enumerate(lengths_of(count).tolist())
    ]
    return write_shards(folder, documents, tokenizer=cast(Tokenizer, Vocabulary), num_shards=SHARDS, provenance={})


def made_up_set(folder: Path, count: int) -> Path:
    """Indexes of as many documents, and shards of the right size with holes in place of records."""
    writer = ShardSetWriter(folder, tokenizer=cast(Tokenizer, Vocabulary), num_shards=SHARDS, provenance={})
    for shard, lengths in enumerate(np.array_split(lengths_of(count), SHARDS)):
        offsets = np.concatenate([[0], np.cumsum(2 * lengths.astype(np.uint64) + 200)])
        path = writer.path(shard)
        with path.open("wb") as file:
            file.truncate(int(offsets[-1]))
        summary = ShardSummary(writer.origin, documents=len(lengths), tokens=int(lengths.sum(dtype=np.int64)))
        summary.shard_bytes = int(offsets[-1])
        write_index(path, ShardIndex(summary, offsets.astype(np.uint64), lengths.astype(np.uint32)))
    writer.finish()
    return folder


def open_and_plan(folder: str, row_length: int, batch_size: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    shard_set = ShardSet(folder)
    loader = Loader(shard_set, batch_size=batch_size, row_length=row_length, seed=0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = loader.sources[0].plan
    print(f"{len(shard_set):,} documents in {plan.num_rows:,} rows of {row_length}, {plan.efficiency:.2%} full")
    print(f"ready after {wall:.2f} s ({cpu:.2f} s of processor time)")
    print(f"peak memory {peak / 1e6:.2f} GB, of which {before / 1e6:.2f} were there before")


def train(shard_set: ShardSet, batch_size: int, rounds: int) -> None:
    """Ten steps a round; only numbers below the network's vocabulary are tokens to it."""
    from tools.benchmarks.cpu_model import CONTEXT, MODEL, on_one_device

    state, trained = on_one_device()
    loader = Loader(shard_set, batch_size=batch_size, row_length=CONTEXT, seed=0)
    waits, steps = [], []
    with loader.batches() as batches:
        for step in range(10 * rounds + 2):
            began = time.perf_counter()
            _, batch = next(batches)
            ready = time.perf_counter()
            state = trained(
                state, batch._replace(tokens=batch.tokens % MODEL.vocab_size, targets=batch.targets % MODEL.vocab_size)
            )
            if step > 1:  # the first one compiles
                waits.append(ready - began)
                steps.append(time.perf_counter() - began)
    share, wait, whole = sum(waits) / sum(steps), statistics.median(waits), statistics.median(steps)
    print(
        f"{len(steps)} steps of {batch_size} × {CONTEXT} tokens: median {whole:.3f} s, {wait * 1e6:.0f} µs of it wait"
    )
    print(f"data-wait share {share:.3%}, longest wait {max(waits):.4f} s")


# A contestant reads everything once and returns the tokens that it packed.
Contestant = Callable[[], int]


def ours(shard_set: ShardSet, row_length: int, batch_size: int) -> Contestant:
    """An epoch in the order of training, which is random, every checksum verified."""
    loader = Loader(shard_set, batch_size=batch_size, row_length=row_length, seed=0)
    steps = loader.num_rows // batch_size

    def run() -> int:
        with loader.batches() as batches:
            return sum(int(np.count_nonzero(next(batches)[1].segment_ids)) for _ in range(steps))

    return run


def tf_data(shard_set: ShardSet, row_length: int, batch_size: int) -> dict[str, Contestant]:
    """Reading alone, and reading and packing; nothing where TensorFlow is missing."""
    try:
        import tensorflow as tf
    except ImportError as error:
        print(f"without tf.data ({error})", file=sys.stderr)
        return {}
    files = [shard_set.path(entry["file"]) for entry in shard_set.manifest["shards"]]
    feature = {"tokens": tf.io.FixedLenFeature([], tf.string)}

    def parse(record: Any) -> Any:
        tokens = tf.io.decode_raw(tf.io.parse_single_example(record, feature)["tokens"], tf.uint16)
        return tf.cast(tokens, tf.int32)

    def pack(ragged: Any) -> Any:
        flat, document = ragged.flat_values, ragged.value_rowids()
        position = tf.range(tf.size(flat, out_type=tf.int64)) - tf.gather(ragged.row_starts(), document)
        learnt = position + 1 < tf.gather(ragged.row_lengths(), document)
        arrays = (flat, tf.roll(flat, -1, 0), position, document + 1, tf.cast(learnt, tf.float32))
        left = -tf.size(flat) % row_length
        return tuple(tf.reshape(tf.pad(array, [[0, left]]), [-1, row_length]) for array in arrays)

    records = tf.data.TFRecordDataset(files, num_parallel_reads=2)
    documents = records.map(parse, num_parallel_calls=2)
    packed = documents.ragged_batch(256).map(pack, num_parallel_calls=2).unbatch().batch(batch_size).prefetch(2)
    return {
        "tf.data, records as they are": lambda: sum(1 for _ in records) and int(shard_set.lengths.sum()),
        "tf.data, read and packed": lambda: sum(int(np.count_nonzero(batch[3])) for batch in packed),
    }


def report(contestants: dict[str, Contestant], rounds: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            began = time.perf_counter()
            tokens = run()
            if turn:  # the first one warms the page cache
                rates[name].append(tokens / (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        print(f"{name:30} {median / 1e6:8.2f} M tokens/s   loader {medians['loader'] / median:5.1f} ×")


if __name__ == "__main__":
    sys.exit(main())
