"""A checkpoint of arrays that are read when they are to be written: the same one, with few of them in memory."""

import weakref

import jax
import ml_dtypes
import numpy as np
import pytest

from demiurgic_jax.checkpoints.checkpoint import Card, CheckpointFolder, open_model, open_stored
from demiurgic_jax.checkpoints.unread import UnreadArray
from demiurgic_jax.errors import UserError


def save(folder, tree, tokenizer, config):
    with CheckpointFolder(folder) as checkpoints:
        checkpoints.save(0, tree, tokenizer, Card(config))
        checkpoints.wait()


def test_it_is_the_checkpoint_that_arrays_would_make(tmp_path, params, tokenizer, config):
    params = jax.tree.map(lambda x: np.asarray(x, ml_dtypes.bfloat16), params)
    unread = jax.tree.map(lambda x: UnreadArray(x.shape, x.dtype, lambda: x), params)
    save(tmp_path / "known", params, tokenizer, config)
    save(tmp_path / "unread", unread, tokenizer, config)
    found, wanted = open_stored(tmp_path / "unread"), open_stored(tmp_path / "known")
    assert found.card == wanted.card
    assert found.dtypes == wanted.dtypes
    opened = open_model(tmp_path / "unread")  # its digests are compared
    jax.tree.map(np.testing.assert_array_equal, opened.params, jax.tree.map(np.float32, params))


def test_while_one_is_written_the_next_is_read_and_no_more(tmp_path, params, tokenizer, config):
    alive, most = 0, 0

    def gone():
        nonlocal alive
        alive -= 1

    def unread(leaf):
        def read():
            nonlocal alive, most
            array = np.array(leaf)
            weakref.finalize(array, gone)
            alive += 1
            most = max(most, alive)
            return array

        return UnreadArray(leaf.shape, leaf.dtype, read)

    save(tmp_path / "ours", jax.tree.map(unread, params), tokenizer, config)
    assert len(jax.tree.leaves(params)) > 6
    assert most <= 3  # the one before lives until the next one's write has begun


def test_one_that_cannot_be_read_leaves_no_checkpoint_and_is_told_once(tmp_path, params, tokenizer, config, caplog):
    def fail():
        raise UserError("model.safetensors is damaged")

    unread = jax.tree.map(lambda x: UnreadArray(x.shape, x.dtype, lambda: np.asarray(x)), params)
    unread["layers"]["w_up"] = UnreadArray(params["layers"]["w_up"].shape, np.dtype(np.float32), fail)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        save(tmp_path / "ours", unread, tokenizer, config)
    with pytest.raises(UserError, match="holds no finished checkpoint"):
        open_model(tmp_path / "ours")
    assert not [record for record in caplog.records if record.exc_info]
