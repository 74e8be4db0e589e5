"""What stored soft targets cost and what they are worth: truncated, for every K and top-p of a grid, and sampled.

    python -m tools.benchmarks.soft_targets PATH --code FOLDER      PATH: a GGUF file or a Hugging Face folder

The student is the teacher with some of its layers. For rows of code a table shows, by K and top-p, or by the K of
samples: bytes per token as a shard has them, and how the gradient of the distillation loss for all the student's
parameters compares with that of the teacher's whole distribution: the cosine between them, and the relative error.
"""

import argparse
import sys
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
    config, params = keep_layers(teacher.params, teacher.config, evenly_spaced(teacher.config.num_layers, layers))
    student, params = Decoder(config, remat="dots"), jax.tree.map(jnp.asarray, params)
    hidden, logprobs = teacher_outputs(teacher, batch)
    beside = TeacherStates(hidden, jnp.asarray(unembedding(teacher.config, teacher.params)))

    @jax.jit
    def gradient(params: Any, batch: Batch, beside: TeacherStates | None) -> Any:
        return jax.grad(lambda params: loss_sums(student, params, batch, TEACHERLESS, teacher=beside).loss)(params)

    whole = gradient(params, batch, beside)
    flat = logprobs.reshape(-1, logprobs.shape[-1])
    most = max([1, *ks, *samples])
    ids = np.argsort(-flat, axis=-1)[:, :most]
    top = np.take_along_axis(flat, ids, axis=-1)
    print("| K | top-p | bytes/token | entries | gradient cosine | relative error |\n|---|---|---|---|---|---|")

    def row(k: int, p: float | str, soft: SoftTargets) -> None:
        entry_ids, entries = (x.reshape(*batch.tokens.shape, most) for x in soft.dense(most))
        stored = batch._replace(teacher_ids=entry_ids, teacher_logprobs=entries)
        if soft.samples:
            stored = stored._replace(teacher_sampled=np.ones(batch.tokens.shape, bool))
        cosine, error = compared(gradient(params, stored, None), whole)
        size = sum(map(len, soft_targets_to_bytes(soft, token_dtype(teacher.tokenizer.vocab_size)))) / len(soft)
        print(f"| {k} | {p} | {size:.1f} | {soft.counts.mean():.1f} | {cosine:.4f} | {error:.3f} |", flush=True)

    for k in ks:
        for p in ps:
            row(k, p, truncate_top_p(ids[:, :k], top[:, :k], p))
    shifts = jnp.asarray(np.random.default_rng(0).random(len(flat), np.float32))
    for k in samples:
        drawn, values = map(np.asarray, sample_by_blocks(jnp.asarray(flat), jnp.zeros((len(flat), 1)), shifts, k))
        row(k, "sampled", sampled_targets(drawn, values, k))


def teacher_outputs(teacher: ImportedModel, batch: Batch) -> tuple[jax.Array, np.ndarray]:
    """Hidden states [B, S, E] and log-probabilities [B, S, V]."""
    decoder = Decoder(teacher.config)

    @jax.jit
    def forward(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        hidden, _ = decoder.apply({"params": params}, batch.tokens, batch.positions, batch.segment_ids)
        logits: Any = decoder.apply({"params": params}, hidden, method="unembed")
        return hidden, jax.nn.log_softmax(logits, axis=-1)

    hidden, logprobs = forward(teacher.params, batch)
    return hidden, np.asarray(logprobs)


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
