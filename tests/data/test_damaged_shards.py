"""No damaged byte of a shard set is ever trained on: it is refused by file, and by record where it lies in one."""

import re
from collections import deque
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from data_samples import flipped, random_documents

from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import MANIFEST, ShardSet, write_shards
from demiurgic_jax.errors import UserError


def record_at(path: Path, byte: int) -> int:
    """Which record of a TFRecord file holds `byte`: the lengths of the records say so."""
    content, start, record = path.read_bytes(), 0, 0
    while True:
        start += 16 + int.from_bytes(content[start : start + 8], "little")
        if byte < start:
            return record
        record += 1


def put(path: Path, at: int, byte: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([byte]))


def train_on(folder: Path) -> None:
    """Opens the set and reads every row, as an epoch of training does."""
    loader = Loader(ShardSet(folder), batch_size=1, row_length=16, seed=0, soft_targets=2)
    deque((loader.batch(step) for step in range(loader.num_rows)), maxlen=0)


def test_every_byte_flipped_in_turn_is_refused_by_file_and_record(tokenizer, tmp_path):
    documents = random_documents(4, longest=4)
    shard_set = write_shards(tmp_path / "s", documents, tokenizer=tokenizer, num_shards=2, provenance={"a": "é"})
    names = [MANIFEST, *(entry["file"] + suffix for entry in shard_set.manifest["shards"] for suffix in ("", ".index"))]
    rng = np.random.default_rng(0)
    for name in names:
        path = shard_set.folder / name
        content = path.read_bytes()
        for byte in range(len(content)):
            expected = rf"^{re.escape(str(path))} is damaged"
            if name.endswith("-of-00002"):
                expected = rf"^{re.escape(str(path))}: record {record_at(path, byte)} fails the checksum"
            put(path, byte, content[byte] ^ 1 << int(rng.integers(8)))
            with pytest.raises(UserError, match=expected) as refusal:
                train_on(shard_set.folder)
            assert str(refusal.value).endswith(f"delete {shard_set.folder} and make the shards again")
            put(path, byte, content[byte])
    train_on(shard_set.folder)


def test_random_flips_in_a_large_set_are_refused_and_all_else_is_still_read(tokenizer, tmp_path):
    documents = random_documents(3000, longest=300)
    shard_set = write_shards(tmp_path / "s", documents, tokenizer=tokenizer, num_shards=3, provenance={})
    rng = np.random.default_rng(1)
    damaged = set()
    for shard, entry in enumerate(shard_set.manifest["shards"]):
        path = shard_set.folder / entry["file"]
        content = path.read_bytes()
        for bit in rng.integers(0, 8 * len(content), 30).tolist():
            damaged.add(shard * 1000 + record_at(path, bit // 8))
            content = flipped(content, bit)
        path.write_bytes(content)
    refused = set()
    again = ShardSet(shard_set.folder)
    for i, document in enumerate(documents):
        try:
            np.testing.assert_array_equal(again.read(i).tokens, document.tokens)
        except UserError as error:
            name, record = re.match(r".*/(\S+): record (\d+) fails the checksum", str(error)).groups()
            refused.add(i)
            assert (name, int(record)) == (shard_set.manifest["shards"][i // 1000]["file"], i % 1000)
    assert refused == damaged
    with pytest.raises(UserError, match="fails the checksum"):
        again.verify()


def test_a_damaged_record_stops_the_readers_threads_and_processes(shard_set):
    path = shard_set.folder / shard_set.manifest["shards"][0]["file"]
    path.write_bytes(flipped(path.read_bytes(), 4003))
    loader = Loader(ShardSet(shard_set.folder), batch_size=8, row_length=48, seed=3)
    for workers in (0, 1):
        with loader.batches(workers=workers) as batches, pytest.raises(UserError, match=f"{path.name}: record 1 fails"):
            deque(islice(batches, loader.num_rows), maxlen=0)


def test_bits_of_manifest_and_index_of_a_larger_set_are_refused_on_opening(shard_set):
    for name in (MANIFEST, "documents-train.tfrecord-00001-of-00004.index"):
        path = shard_set.folder / name
        content = path.read_bytes()
        for bit in np.random.default_rng(0).integers(0, 8 * len(content), 150).tolist():
            path.write_bytes(flipped(content, bit))
            with pytest.raises(UserError, match=re.escape(name) + " is damaged"):
                ShardSet(shard_set.folder)
        path.write_bytes(content)
