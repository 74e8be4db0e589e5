"""What stored soft targets cost and what they are worth: truncated, for every K and top-p of a grid, and sampled.

    python -m tools.benchmarks.soft_targets PATH --code FOLDER      PATH: a GGUF file or a Hugging Face folder

The student is the teacher with some of its layers. For rows of code a table shows, by K and top-p, or by the K of
samples: bytes per token as a shard has them, and how the gradient of the distillation loss for all the student's
parameters compares with that of the teacher's whole distribution: the cosine between them, and the relative error.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.document import token_dtype
from demiurgic_jax.data.soft_target_bytes import soft_targets_to_bytes
from demiurgic_jax.data.soft_targets import SoftTargets, sampled_targets, truncate_top_p
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import ImportedModel, import_model
from demiurgic_jax.interop.pruning import evenly_spaced, keep_layers
from demiurgic_jax.model.decoder import Decoder, unembedding
from demiurgic_jax.sampling.vocabulary_blocks import sample_by_blocks
from demiurgic_jax.training.losses import LossConfig, TeacherStates
from demiurgic_jax.training.step import loss_sums
from tools.benchmarks.scoring import code_documents

TEACHERLESS = LossConfig(1.0, chunk_tokens=128)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--code", type=Path, required=True, help="folder of source files")
    parser.add_argument("--layers", type=int, default=24, help="of the teacher's in the student (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--row-length", type=int, default=256)
    parser.add_argument("--top-k", default="4,8,16,32,64", help="default: %(default)s")
    parser.add_argument("--top-p", default="0.9,0.95,0.98,0.99,1.0", help="default: %(default)s")
    parser.add_argument("--samples", default="20,30,40,50,80", help="the K of samples (default: %(default)s)")
    options = parser.parse_args()
    try:
        teacher = import_model(options.teacher)
        batch = code_rows(teacher, options.code, options.rows, options.row_length)
        ks, samples = _numbers(options.top_k), _numbers(options.samples)
        ps = [float(text) for text in options.top_p.split(",")]
        report(teacher, batch, options.layers, ks, ps, samples)
    except UserError as error:
        print(f"soft_targets: {error}", file=sys.stderr)
        return 2
    return 0


def _numbers(text: str) -> list[int]:
    """Of a list with commas; an empty one has none."""
    return [int(part) for part in text.split(",") if part]


def code_rows(teacher: ImportedModel, folder: Path, rows: int, length: int) -> Batch:
    """Rows of code that begin in the middle of nothing: one document each."""
    documents = code_documents(teacher, folder, rows * (length + 1))
    tokens = np.concatenate([document.tokens for document in documents])[: rows * (length + 1)]
    ids = tokens.reshape(rows, length + 1)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    ones = np.ones((rows, length), np.int32)
    return Batch(ids[:, :-1], ids[:, 1:], positions, ones, ones.astype(np.float32))


def report(
    teacher: ImportedModel, batch: Batch, layers: int, ks: list[int], ps: list[float], samples: list[int]
) -> None:
    """The table, a row of the batch at a time: the whole distribution of one row of tokens is all that is ever held."""
    config, params = keep_layers(teacher.params, teacher.config, evenly_spaced(teacher.config.num_layers, layers))
    student, params = Decoder(config, remat="dots"), jax.tree.map(jnp.asarray, params)
    rows = [jax.tree.map(lambda x, row=row: x[row : row + 1], batch) for row in range(len(batch.tokens))]
    length = batch.tokens.shape[1]
    shifts = np.random.default_rng(0).random((len(rows), length), np.float32)

    @partial(jax.jit, donate_argnums=1)
    def with_gradient(params: Any, total: Any, row: Batch, beside: TeacherStates | None) -> Any:
        gradient = jax.grad(lambda params: loss_sums(student, params, row, TEACHERLESS, teacher=beside).loss)(params)
        return jax.tree.map(jnp.add, total, gradient)

    def nothing() -> Any:
        return jax.tree.map(jnp.zeros_like, params)

    most = max([1, *ks])
    tops: list[tuple[np.ndarray, np.ndarray]] = []
    draws: dict[int, list[SoftTargets]] = {k: [] for k in samples}
    whole, table = nothing(), jnp.asarray(unembedding(teacher.config, teacher.params))
    outputs = teacher_outputs(teacher)
    for row, shift in zip(rows, shifts, strict=True):
        hidden, logprobs = outputs(row)
        whole = with_gradient(params, whole, row, TeacherStates(hidden, table))
        top, ids = jax.lax.top_k(logprobs[0], most)
        tops.append((np.asarray(ids), np.asarray(top)))
        for k, drawn in draws.items():
            chosen, values = sample_by_blocks(logprobs[0], jnp.zeros((length, 1)), jnp.asarray(shift), k)
            drawn.append(sampled_targets(np.asarray(chosen), np.asarray(values), k))
    print("| K | top-p | bytes/token | entries | gradient cosine | relative error |\n|---|---|---|---|---|---|")

    def line(k: int, p: float | str, stored: list[SoftTargets]) -> None:
        gradient = nothing()
        for row, soft in zip(rows, stored, strict=True):
            ids, entries = (x[None] for x in soft.dense(k))
            kept = row._replace(teacher_ids=ids, teacher_logprobs=entries)
            if soft.samples:
                kept = kept._replace(teacher_sampled=np.ones((1, length), bool))
            gradient = with_gradient(params, gradient, kept, None)
        cosine, error = compared(gradient, whole)
        dtype = token_dtype(teacher.tokenizer.vocab_size)
        size = sum(len(part) for soft in stored for part in soft_targets_to_bytes(soft, dtype)) / batch.tokens.size
        entries_per_token = np.mean([soft.counts.mean() for soft in stored])
        print(f"| {k} | {p} | {size:.1f} | {entries_per_token:.1f} | {cosine:.4f} | {error:.3f} |", flush=True)

    for k in ks:
        for p in ps:
            line(k, p, [truncate_top_p(ids[:, :k], top[:, :k], p) for ids, top in tops])
    for k in samples:
        line(k, "sampled", draws[k])


def teacher_outputs(teacher: ImportedModel) -> Callable[[Batch], tuple[jax.Array, jax.Array]]:
    """Of a batch: hidden states [B, S, E] and log-probabilities [B, S, V]."""
    decoder, params = Decoder(teacher.config), jax.tree.map(jnp.asarray, teacher.params)

    @jax.jit
    def forward(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        hidden, _ = decoder.apply({"params": params}, batch.tokens, batch.positions, batch.segment_ids)
        logits: Any = decoder.apply({"params": params}, hidden, method="unembed")
        return hidden, jax.nn.log_softmax(logits, axis=-1)

    return lambda batch: forward(params, batch)


@jax.jit
def compared(ours: Any, whole: Any) -> tuple[jax.Array, jax.Array]:
    """The cosine between two gradients, and the length of their difference over that of `whole`."""

    def dot(left: Any, right: Any) -> jax.Array:
        return jnp.sum(jnp.stack(jax.tree.leaves(jax.tree.map(jnp.vdot, left, right))))

    difference = jax.tree.map(jnp.subtract, ours, whole)
    square = dot(whole, whole)
    return dot(ours, whole) / jnp.sqrt(dot(ours, ours) * square), jnp.sqrt(dot(difference, difference) / square)


if __name__ == "__main__":
    sys.exit(main())
