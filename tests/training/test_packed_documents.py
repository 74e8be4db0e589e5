"""Documents that share a row know nothing of each other: what a pack teaches is what its documents teach alone."""

import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.packing import PACKINGS
from demiurgic_jax.data.rows import batch_of
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.data.soft_targets import truncate_top_p
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.step import loss_sums

ROW_LENGTH = 32
ENTRIES = 3
MOST_ROWS = 24
LOSS = LossConfig(distill_weight=0.5, temperature=2.0, z_loss=1e-4, chunk_tokens=16)


def random_documents(rng: np.random.Generator) -> list[Document]:
    """Examples with a prompt, text without, with and without a teacher, some longer than a row."""
    documents = []
    for i in range(int(rng.integers(2, 10))):
        n = int(rng.integers(1, 45))
        tokens = rng.integers(0, 400, n)
        mask = (np.arange(n) >= rng.integers(0, n + 1)).astype(np.uint8) if rng.integers(2) else None
        logprobs = np.log(rng.dirichlet(np.ones(ENTRIES), n))
        soft = truncate_top_p(rng.permuted(np.tile(np.arange(400), (n, 1)), axis=1)[:, :ENTRIES], logprobs, 0.9)
        documents.append(Document(f"{i}", "python", "complete", tokens, mask, soft if rng.integers(2) else None))
    return documents


def packed(documents: list[Document], tokenizer, folder: Path, packing: str) -> Batch:
    """All rows of all documents, and empty ones up to MOST_ROWS."""
    shutil.rmtree(folder, ignore_errors=True)
    shard_set = write_shards(folder, documents, tokenizer=tokenizer, num_shards=1, provenance={})
    cap = ENTRIES if shard_set.manifest["soft_target_cap"] else 0
    loader = Loader(shard_set, batch_size=1, row_length=ROW_LENGTH, seed=0, soft_targets=cap, packing=packing)
    (rows,) = loader.all_rows(MOST_ROWS)
    if not cap:
        nobody = batch_of([], MOST_ROWS, ROW_LENGTH, ENTRIES)
        rows = rows._replace(teacher_ids=nobody.teacher_ids, teacher_logprobs=nobody.teacher_logprobs)
    return rows


def unpacked(rows: Batch) -> Batch:
    """The same pieces, each alone at the beginning of a row of its own that says nothing of segments."""
    pieces = [
        (row, rows.segment_ids[row] == segment)
        for row in range(MOST_ROWS)
        for segment in range(1, rows.segment_ids[row].max() + 1)
    ]
    assert len(pieces) <= MOST_ROWS
    alone = batch_of([], MOST_ROWS, ROW_LENGTH, ENTRIES)
    for row, (source, here) in enumerate(pieces):
        for mine, its in zip(alone, rows, strict=True):
            if mine is None:
                continue
            mine[row, : here.sum()] = its[source][here]
    positions = np.tile(np.arange(ROW_LENGTH, dtype=np.int32), (MOST_ROWS, 1))
    return alone._replace(segment_ids=np.ones_like(alone.segment_ids), positions=positions)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("packs") / "shards"


@pytest.fixture(scope="module")
def taught(model, params):
    """batch → the sums of its losses, and the gradient of each parameter."""

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradients(params, batch):
        sums = loss_sums(Decoder(model), params, batch, LOSS)
        return sums.loss, sums

    return lambda batch: jax.device_get(gradients(params, batch))


def assert_teaches_the_same(one, other, rtol: float, atol: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), packing=st.sampled_from(sorted(PACKINGS)))
def test_a_pack_teaches_what_its_documents_teach_alone(taught, tokenizer, scratch, seed, packing):
    documents = random_documents(np.random.default_rng(seed))
    rows = packed(documents, tokenizer, scratch, packing)
    alone = unpacked(rows)
    (gradients, sums), (its_gradients, its_sums) = taught(rows), taught(alone)
    learnt = [np.ones(len(each.tokens)) if each.loss_mask is None else each.loss_mask for each in documents]
    assert sums.weight == sum(mask[1:].sum() for mask in learnt)
    assert_teaches_the_same(sums, its_sums, rtol=1e-5, atol=1e-5)
    assert_teaches_the_same(gradients, its_gradients, rtol=1e-4, atol=1e-5)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_padding_and_prompts_never_count(taught, tokenizer, scratch, seed):
    rng = np.random.default_rng(seed)
    rows = packed(random_documents(rng), tokenizer, scratch, "best_fit")
    noise = Batch(*(None if array is None else rng.permuted(array.ravel()).reshape(array.shape) for array in rows))
    padding, unlearnt = rows.segment_ids == 0, rows.loss_weights == 0
    other = rows._replace(
        tokens=np.where(padding, noise.tokens, rows.tokens),
        positions=np.where(padding, noise.positions, rows.positions),
        targets=np.where(unlearnt, noise.tokens, rows.targets),
        teacher_ids=np.where(unlearnt[..., None], noise.teacher_ids, rows.teacher_ids),
        teacher_logprobs=np.where(unlearnt[..., None], noise.teacher_logprobs, rows.teacher_logprobs),
    )
    assert_teaches_the_same(taught(other), taught(rows), rtol=1e-6, atol=1e-7)
