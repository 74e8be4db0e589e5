"""SIGKILL at any moment of writing, then the same again: bit for bit the shards of an unbroken run."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from data_samples import random_documents

from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.data.tokenizer import save_tokenizer

# Writes one byte per document taken, so that the parent can kill at a chosen one.
WRITE = """
import os, sys
from collections.abc import Sequence
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.data.tokenizer import load_tokenizer
from data_samples import random_documents

class Watched(list):
    def __getitem__(self, where):
        return self.steps(super().__getitem__(where))
    @staticmethod
    def steps(documents):
        for document in documents:
            os.write(1, b".")
            yield document

documents = Watched(random_documents(80))
write_shards(sys.argv[1], documents, tokenizer=load_tokenizer(sys.argv[2]), num_shards=6, provenance={"run": 1})
"""


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_killed_anywhere_and_run_again_gives_the_same_shards(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    write_shards(tmp_path / "whole", random_documents(80), tokenizer=tokenizer, num_shards=6, provenance={"run": 1})
    broken = tmp_path / "broken"
    command = [sys.executable, "-c", WRITE, str(broken), str(tmp_path / "tokenizer")]
    rng = random.Random(0)
    kills = 0
    for _ in range(40):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
        )
        assert process.stdout is not None
        # A child that takes fewer documents than this ends by itself.
        if len(process.stdout.read(rng.randint(1, 25))) > 0:
            process.send_signal(signal.SIGKILL)
        process.stdout.close()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        assert not (broken / "manifest.json").exists()
    else:
        raise AssertionError("never came to an end")
    assert kills >= 3
    assert written(broken) == written(tmp_path / "whole")
    ShardSet(broken).verify()
