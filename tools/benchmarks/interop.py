"""How fast a large model comes in and goes out, and in how much memory: against what copying its files takes.

    python -m tools.benchmarks.interop --folder=/tmp/interop                     7B-shaped, 13.5 GB in bfloat16
    python -m tools.benchmarks.interop --folder=/tmp/interop --layers=8          a quarter of it

Makes a random model of the shape `7b` with as many layers as asked for, in shards of 5 GB; copies its files; imports it
(tools.import_model); exports the checkpoint to a Hugging Face folder and to GGUF (tools.export_model). Each is a
process of its own. Files are pushed out of the page cache before they are read, and are on disk before the clock stops.
The folder needs room for three times the model; each part is removed when it is no longer needed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np

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
    options = parser.parse_args(argv)
    config = replace(named_config("7b"), num_layers=options.layers)
    options.folder.mkdir(parents=True)
    try:
        for figures in measure(config, options.folder):
            print(json.dumps(figures), flush=True)
    finally:
        shutil.rmtree(options.folder)
    return 0


def measure(config: ModelConfig, folder: Path) -> Iterator[dict[str, object]]:
    size = 2 * config.num_parameters
    theirs, ours = folder / "theirs", folder / "ours"
    write_random_model(config, theirs)
    yield {"what": "model", "GB": size / 1e9, "layers": config.num_layers}
    yield from copied(theirs, folder / "copy", size)
    shutil.rmtree(folder / "copy")
    yield run("import", ["tools.import_model", str(theirs), str(ours)], theirs, size)
    shutil.rmtree(theirs)
    out = ["tools.export_model", str(ours)]
    yield run("export to Hugging Face", [*out, str(folder / "hf")], ours, size)
    yield from copied(folder / "hf", folder / "copy", size)
    shutil.rmtree(folder / "hf")
    shutil.rmtree(folder / "copy")
    gguf = ["--format=gguf", "--dtype=bfloat16"]
    yield run("export to GGUF", [*out, str(folder / "model.gguf"), *gguf], ours, size)


def write_random_model(config: ModelConfig, folder: Path) -> None:
    """A Llama of random bfloat16 numbers as a Hugging Face folder."""
    folder.mkdir()
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


def copied(source: Path, target: Path, size: int) -> Iterator[dict[str, object]]:
    yield run("copy", ["shutil", str(source), str(target)], source, size)


def run(what: str, arguments: list[str], source: Path, size: int) -> dict[str, object]:
    """Seconds of the whole process and its peak of resident memory, mapped files included."""
    forget(source)
    command = [sys.executable, "-m", *arguments]
    if what == "copy":
        command = ["sh", "-c", f"cp -r '{source}' '{arguments[2]}' && sync -f '{arguments[2]}'"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    if status:
        raise RuntimeError(f"{what} failed: {command}")
    peak = usage.ru_maxrss * 1024
    return {
        "what": what,
        "seconds": round(seconds, 1),
        "GB/s": round(size / seconds / 1e9, 3),
        "peak_GB": round(peak / 1e9, 2),
        "peak_of_model": round(peak / size, 3),
    }


def forget(path: Path) -> None:
    """Pushes the files of `path` out of the page cache."""
    for file in path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
