import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from data_samples import random_documents

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.mixture import Mixture
from demiurgic_jax.data.packing import PACKINGS, PackingPlan
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.data.soft_targets import sampled_targets
from demiurgic_jax.errors import UserError

ROW_LENGTH = 48  # shorter than most documents, so that they are cut


@pytest.fixture
def loader(shard_set) -> Loader:
    return Loader(shard_set, batch_size=8, row_length=ROW_LENGTH, seed=3, soft_targets=6)


@pytest.fixture
def plan(loader) -> PackingPlan:
    return loader.sources[0].plan


def assert_same_batch(one: Batch, other: Batch) -> None:
    for name, a, b in zip(Batch._fields, one, other, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a is None or a.dtype == b.dtype


def joined(batches: list[Batch]) -> Batch:
    return Batch(*(None if arrays[0] is None else np.concatenate(arrays) for arrays in zip(*batches, strict=True)))


def test_batch_is_the_same_after_a_restart_at_any_step(loader, shard_set):
    again = Loader(ShardSet(shard_set.folder), batch_size=8, row_length=ROW_LENGTH, seed=3, soft_targets=6)
    for step in (0, 1, loader.num_rows // 8, 3 * loader.num_rows + 2, 10**9):
        assert_same_batch(again.batch(step), loader.batch(step))
    assert not np.array_equal(
        Loader(shard_set, batch_size=8, row_length=ROW_LENGTH, seed=4).batch(0).tokens, loader.batch(0).tokens
    )


@pytest.mark.parametrize("process_count", [1, 2, 4, 8])
def test_processes_share_one_global_batch(loader, process_count):
    for step in (0, loader.num_rows // 8, 1000):
        parts = [loader.batch(step, process, process_count) for process in range(process_count)]
        assert parts[0].tokens.shape == (8 // process_count, ROW_LENGTH)
        assert_same_batch(joined(parts), loader.batch(step))


def test_every_epoch_takes_every_row_once_also_where_a_batch_lies_in_two_epochs(loader):
    num_rows = loader.num_rows
    assert num_rows % 8
    stream = [row.tobytes() for step in range(-(-3 * num_rows // 8)) for row in loader.batch(step).tokens]
    whole = sorted(row.tobytes() for batch in loader.all_rows(8) for row in batch.tokens[batch.segment_ids[:, 0] > 0])
    epochs = [stream[epoch * num_rows : (epoch + 1) * num_rows] for epoch in range(3)]
    assert len(set(whole)) == num_rows
    assert [sorted(epoch) for epoch in epochs] == [whole] * 3
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("packing", PACKINGS)
def test_no_token_is_lost_or_doubled(shard_set, documents, packing):
    """Put the pieces of every row together again: tokens, and every learnable target once with its weight."""
    tokens = [np.full(len(document.tokens), -1) for document in documents]
    weights = [np.full(len(document.tokens), -1.0) for document in documents]
    loader = Loader(shard_set, batch_size=8, row_length=ROW_LENGTH, seed=3, packing=packing)
    for row, batch in enumerate(loader.all_rows(1)):
        column = 0
        for segment, (document, start, stop) in enumerate(loader.sources[0].plan.pieces(row), start=1):
            here = slice(column, column + stop - start)
            assert (batch.segment_ids[0, here] == segment).all()
            assert batch.positions[0, here].tolist() == list(range(stop - start))
            assert (tokens[document][start:stop] == -1).all()
            tokens[document][start:stop] = batch.tokens[0, here]
            for s in range(start, min(stop, len(documents[document].tokens) - 1)):
                assert batch.targets[0, column + s - start] == documents[document].tokens[s + 1]
                weights[document][s + 1] = batch.loss_weights[0, column + s - start]
            if stop == len(documents[document].tokens):
                assert batch.loss_weights[0, here][-1] == 0
            column += stop - start
        for array in (batch.tokens, batch.segment_ids, batch.loss_weights):
            assert not array[0, column:].any()
    for document, got, weight in zip(documents, tokens, weights, strict=True):
        np.testing.assert_array_equal(got, document.tokens)
        mask = np.ones(len(got)) if document.loss_mask is None else document.loss_mask
        np.testing.assert_array_equal(weight[1:], mask[1:])


def test_soft_targets_stand_beside_the_targets_they_describe(loader, plan, documents):
    described = 0
    for row, batch in enumerate(loader.all_rows(1)):
        column = 0
        for document, start, stop in plan.pieces(row):
            last = len(documents[document].tokens) - 1
            for s in range(start, stop):
                soft, at = documents[document].soft_targets, column + s - start
                count = 0 if soft is None or s == last else int(soft.counts[s])
                logprobs = batch.teacher_logprobs[0, at]
                assert np.isfinite(logprobs).sum() == count
                if count:
                    assert batch.teacher_ids[0, at, 0] == batch.targets[0, at]
                    np.testing.assert_array_equal(logprobs, soft.slice(s, s + 1).dense(6)[1][0])
                    described += 1
            column += stop - start
    assert described > 1000


def test_fewer_soft_targets_are_the_likeliest(loader, shard_set):
    two = Loader(shard_set, batch_size=8, row_length=ROW_LENGTH, seed=3, soft_targets=2)
    np.testing.assert_array_equal(two.batch(1).teacher_ids, loader.batch(1).teacher_ids[..., :2])
    none = Loader(shard_set, batch_size=8, row_length=ROW_LENGTH, seed=3).batch(1)
    assert none.teacher_ids is None
    np.testing.assert_array_equal(none.tokens, loader.batch(1).tokens)


@pytest.mark.parametrize(("threads", "workers"), [(1, 0), (4, 0), (1, 2)])
def test_prefetched_batches_are_those_of_their_steps(loader, threads, workers):
    start = loader.num_rows // 8 - 2
    with loader.batches(start, process_index=1, process_count=2, threads=threads, workers=workers) as batches:
        for expected in range(start, start + 5):
            step, batch = next(batches)
            assert step == expected
            assert_same_batch(batch, loader.batch(step, 1, 2))


def test_close_stops_the_reading_threads(loader):
    before = threading.active_count()
    batches = loader.batches()
    next(batches)
    assert threading.active_count() > before
    batches.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_all_rows_gives_every_row_once_and_fills_up_with_nothing(loader):
    batches = list(loader.all_rows(9))
    assert {batch.tokens.shape for batch in batches} == {(9, ROW_LENGTH)}
    together = joined(batches)
    num_rows = loader.num_rows
    assert num_rows % 9
    assert_same_batch(
        Batch(*(None if array is None else array[:num_rows] for array in together)), joined(list(loader.all_rows(1)))
    )
    assert not together.loss_weights[num_rows:].any()
    assert not together.segment_ids[num_rows:].any()


def test_all_rows_are_shared_by_processes(loader):
    halves = [list(loader.all_rows(6, process_index=process, process_count=2)) for process in range(2)]
    for whole, *parts in zip(loader.all_rows(6), *halves, strict=True):
        assert_same_batch(joined(parts), whole)


def test_rows_in_names_the_documents_of_a_step(loader, documents):
    for keys, row in zip(loader.rows_in(4), loader.batch(4).tokens, strict=True):
        by_key = {document.key: document for document in documents}
        assert row[0] in by_key[keys[0]].tokens
        assert set(row.tolist()) - {0} <= set(np.concatenate([by_key[key].tokens for key in keys]).tolist())


def test_less_than_one_batch_is_refused(shard_set):
    with pytest.raises(UserError, match="fewer than one batch of 4000"):
        Loader(shard_set, batch_size=4000, row_length=ROW_LENGTH, seed=0)


def test_a_set_without_documents_is_refused(tokenizer, tmp_path):
    shard_set = write_shards(tmp_path, [], tokenizer=tokenizer, num_shards=1, provenance={})
    with pytest.raises(UserError, match=f"{tmp_path} holds no document"):
        Loader(shard_set, batch_size=1, row_length=ROW_LENGTH, seed=0)


def test_soft_targets_that_are_not_there_are_refused(tokenizer, tmp_path):
    documents = [document for document in random_documents(40) if document.soft_targets is None]
    shard_set = write_shards(tmp_path, documents, tokenizer=tokenizer, num_shards=1, provenance={})
    with pytest.raises(UserError, match="holds no soft targets"):
        Loader(shard_set, batch_size=1, row_length=ROW_LENGTH, seed=0, soft_targets=4)


def test_a_batch_that_processes_cannot_share_is_refused(loader):
    with pytest.raises(UserError, match="batch size 8 does not divide over 3 processes"):
        loader.batch(0, 0, 3)
    with pytest.raises(UserError, match="batch size 8 does not divide over 3 processes"):
        loader.batches(0, process_index=0, process_count=3)


def test_batches_say_which_positions_have_samples_and_none_of_them_is_left_out(shard_set, tokenizer, tmp_path):
    """A mixture of a set with samples and one with truncated soft targets."""
    documents = random_documents(30, seed=9)
    drawn = []
    for document in documents:
        soft = document.soft_targets
        if soft is not None:
            soft = sampled_targets(*soft.dense(6), 6)
        drawn.append(replace(document, soft_targets=soft))
    sampled = write_shards(tmp_path / "sampled", drawn, tokenizer=tokenizer, num_shards=2, provenance={})
    sampled.verify()
    assert (sampled.manifest["format"], sampled.manifest["soft_target_samples"]) == (2, 6)
    assert shard_set.manifest["format"] == 1
    mixed = Loader(Mixture([sampled, shard_set], [1, 1]), batch_size=8, row_length=ROW_LENGTH, seed=3, soft_targets=6)
    batch = mixed.batch(0)
    assert 0 < batch.teacher_sampled.sum() < np.isfinite(batch.teacher_logprobs[..., 0]).sum()
    # Of samples none weighs less than 1/K; of the truncated ones some do.
    least = np.where(np.isfinite(batch.teacher_logprobs), batch.teacher_logprobs, 0).min(axis=-1)
    assert (least[batch.teacher_sampled] >= -np.log(6) - 1e-3).all()
    assert (least[~batch.teacher_sampled] < -np.log(6) - 1e-3).any()
    with pytest.raises(UserError, match=r"holds up to 6 samples .* set train\.soft_targets=6 instead of 4"):
        Loader(sampled, batch_size=8, row_length=ROW_LENGTH, seed=3, soft_targets=4)
    assert (
        Loader(shard_set, batch_size=8, row_length=ROW_LENGTH, seed=3, soft_targets=6).batch(0).teacher_sampled is None
    )
