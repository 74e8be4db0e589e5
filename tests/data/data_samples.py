"""Real code to train a tokenizer on, and documents of every kind to shard."""

import argparse
import inspect
from pathlib import Path

import numpy as np

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.soft_targets import truncate_top_p

VOCAB_SIZE = 700


def standard_library_text() -> list[str]:
    return [Path(inspect.getfile(module)).read_text() for module in (argparse, inspect)]


def random_documents(count: int, *, seed: int = 0, longest: int = 150) -> list[Document]:
    """With and without a mask, with and without a teacher, from one token up.

    The teacher's first entry is the token that follows, so that a test can see them side by side.
    """
    rng = np.random.default_rng(seed)
    documents = []
    for i in range(count):
        n = int(rng.integers(1, longest))
        tokens = rng.integers(0, VOCAB_SIZE, n)
        soft = None
        if i % 4:
            ids = rng.integers(0, VOCAB_SIZE, (n, 6))
            ids[:, 0] = np.roll(tokens, -1)
            logprobs = np.sort(np.log(rng.dirichlet(np.full(6, 0.3), n) + 1e-9))[:, ::-1]
            soft = truncate_top_p(ids, logprobs, 0.95)
        documents.append(
            Document(
                key=f"document-{i}",
                language=("python", "rust")[i % 2],
                task=("complete", "fix", "explain")[i % 3],
                tokens=tokens,
                loss_mask=rng.integers(0, 2, n).astype(np.uint8) if i % 2 else None,
                soft_targets=soft,
                licence=("MIT", "Apache-2.0")[i % 2],
            )
        )
    return documents


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
