"""How fast a large model comes in and goes out, and in how much memory: against what copying its files takes.

    python -m tools.benchmarks.interop --folder=/tmp/interop                     7B-shaped, 13.5 GB in bfloat16
    python -m tools.benchmarks.interop --folder=/tmp/interop --layers=4          2.1 GB: the 7B's tensors, fewer of them

Makes a random model of the shape `7b` with as many layers as asked for, in shards of 5 GB. In each round its files are
copied by `cp`, imported (tools.import_model), and the checkpoint exported to a Hugging Face folder and to GGUF
(tools.export_model); likewise a model of no size, which is what Python, JAX and its compiler take to start.
Each is a process of its own. What it reads is pushed out of the page cache before, what it wrote is on disk before the
clock stops. At the end come the medians: `of_copying` is the speed, less the start, as a part of the copy's, and
`peak_of_model` the memory above the start's as a part of the model's size. The folder needs room for three times the
model.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from demiurgic_jax.data.files import give_back_pages
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.interop.families import family_of
from demiurgic_jax.interop.huggingface_config import write_config
from demiurgic_jax.interop.huggingface_export import SHARD_BYTES, shard_name, shards_of, tokenizer_files
from demiurgic_jax.interop.layout import places
from demiurgic_jax.interop.safetensors_folder import INDEX
from demiurgic_jax.interop.safetensors_writer import TensorInfo, write_safetensors
from demiurgic_jax.model.config import ModelConfig, named_config

BFLOAT16 = np.dtype(jnp.bfloat16)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.interop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--folder", type=Path, required=True, help="where to work; made, and removed at the end")
    parser.add_argument("--layers", type=int, default=32, help="of the 7B's 32 (default: 32)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is done (default: 3)")
    options = parser.parse_args(argv)
    config = replace(named_config("7b"), num_layers=options.layers)
    options.folder.mkdir(parents=True)
    try:
        for figures in measure(config, options.folder, options.rounds):
            print(json.dumps(figures), flush=True)
    finally:
        shutil.rmtree(options.folder)
    return 0


def measure(config: ModelConfig, folder: Path, rounds: int) -> Iterator[dict[str, object]]:
    large, empty = folder / "large", folder / "empty"
    # Elsewhere: what a process starts from counts as its peak.
    with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
        elsewhere.submit(write_random_model, config, large / "theirs").result()
        elsewhere.submit(write_random_model, EMPTY, empty / "theirs").result()
    size = 2 * config.num_parameters
    yield {"what": "model", "GB": round(size / 1e9, 3), "layers": config.num_layers}
    found: dict[str, list[tuple[Taken, Taken]]] = {}
    for number in range(rounds):
        for what, wanted in STEPS.items():
            start, taken = (run(wanted, inside) for inside in (empty, large))
            found.setdefault(what, []).append((start, taken))
            yield {"round": number, "what": what, "start": start._asdict(), **taken._asdict()}
            if wanted.target != CHECKPOINT:  # from which the next ones are made
                for inside in (empty, large):
                    remove(inside / wanted.target)
        for inside in (empty, large):
            remove(inside / CHECKPOINT)

    def seconds(what: str) -> float:
        return median(taken.seconds - start.seconds for start, taken in found[what])

    for what, pairs in found.items():
        peak = median(taken.peak_GB - start.peak_GB for start, taken in pairs)
        yield {
            "what": what,
            "start_seconds": round(median(start.seconds for start, _ in pairs), 1),
            "seconds": round(seconds(what), 1),
            "GB/s": round(size / seconds(what) / 1e9, 3),
            "of_copying": round(seconds("copy") / seconds(what), 2),
            "peak_of_model": round(peak * 1e9 / size, 2),
        }


class Step(NamedTuple):
    """What to run between two names in a model's folder."""

    source: str
    target: str
    module: str | None = None
    options: tuple[str, ...] = ()


CHECKPOINT = "ours"
STEPS = {
    "copy": Step("theirs", "copy"),
    "import": Step("theirs", CHECKPOINT, "tools.import_model"),
    "export to Hugging Face": Step(CHECKPOINT, "hf", "tools.export_model"),
    "export to GGUF": Step(CHECKPOINT, "model.gguf", "tools.export_model", ("--format=gguf", "--dtype=bfloat16")),
}
EMPTY = replace(named_config("tiny"), vocab_size=512)


class Taken(NamedTuple):
    """`peak_GB` of resident memory, mapped files included; `cpu_seconds` of all threads."""

    seconds: float
    cpu_seconds: float
    peak_GB: float  # noqa: N815


def run(step: Step, folder: Path) -> Taken:
    """The whole process, and until what it wrote is on disk."""
    source, target = folder / step.source, folder / step.target
    forget(source)
    program = ["cp", "-r"] if step.module is None else [sys.executable, "-m", step.module]
    command = [*program, str(source), str(target), *step.options]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} failed")
    for descriptor in opened(target):
        os.fsync(descriptor)
    seconds = time.monotonic() - began
    return Taken(round(seconds, 1), round(usage.ru_utime + usage.ru_stime, 1), round(usage.ru_maxrss * 1024 / 1e9, 2))


def forget(path: Path) -> None:
    """Pushes the files of `path` out of the page cache."""
    for descriptor in opened(path):
        os.fsync(descriptor)
    give_back_pages(path)


def opened(path: Path) -> Iterator[int]:
    """Each file of `path`, itself if it is one, open for as long as it is looked at."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            yield descriptor
            os.close(descriptor)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def write_random_model(config: ModelConfig, folder: Path) -> None:
    """A Llama of random bfloat16 numbers as a Hugging Face folder."""
    folder.mkdir(parents=True)
    found = places(config, family_of(config), "huggingface")
    infos = [TensorInfo(name, BFLOAT16, place.stored_shape) for place in found for name in place.names]
    numbers = np.random.default_rng(0).standard_normal(1 << 24, np.float32).astype(BFLOAT16)
    tensors = (np.resize(numbers, info.shape) for info in infos)
    shards = shards_of(infos, SHARD_BYTES)
    weight_map: dict[str, str] = {}
    for index, shard in enumerate(shards):
        name = shard_name(index, len(shards))
        write_safetensors(folder / name, shard, tensors)
        weight_map |= {info.name: name for info in shard}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    tokenizer = train_sentencepiece(["for number in range(10):\n    print(number)\n" * 20], 400)
    for name, content in tokenizer_files(tokenizer).items():
        (folder / name).write_bytes(content)
    (folder / "config.json").write_text(json.dumps(write_config(config, tokenizer.special, BFLOAT16)))


if __name__ == "__main__":
    sys.exit(main())
