"""A checkpoint is self-contained, opens on any mesh, and says by name what does not fit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.checkpoints.checkpoint import Card, CheckpointFolder, open_model
from demiurgic_jax.checkpoints.retention import Retention
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.decoder import Decoder, unembedding
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.rules import parameter_shardings


def saved(folder, params, tokenizer, config, steps=(7,), *, keep=None):
    with CheckpointFolder(folder, Retention(last=keep)) as checkpoints:
        for step in steps:
            moved = jax.tree.map(lambda x, step=step: x + step, params)
            checkpoints.save(step, moved, tokenizer, Card(config, f"data-{step}", {"teacher": "none"}))
    return folder


def on_mesh(config, shape):
    """Abstract parameters laid over a mesh."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract_parameters(config),
        parameter_shardings(make_mesh(shape), config),
    )


def test_a_folder_and_a_step_of_it_open_as_they_were_saved(tmp_path, params, tokenizer, config):
    folder = saved(tmp_path / "checkpoints", params, tokenizer, config, steps=(3, 7))
    newest, older = open_model(folder), open_model(folder / "3")
    assert (newest.step, older.step) == (7, 3)
    for opened in (newest, older):
        assert opened.config == config
        card = replace(opened.card, tokenizer_fingerprint="", digests={})
        assert card == Card(config, f"data-{opened.step}", {"teacher": "none"})
        assert opened.tokenizer.fingerprint == tokenizer.fingerprint
        assert opened.tokenizer.encode("return a + b") == tokenizer.encode("return a + b")
        jax.tree.map(lambda a, b, step=opened.step: np.testing.assert_array_equal(a, b + step), opened.params, params)
        assert {type(leaf) for leaf in jax.tree.leaves(opened.params)} == {np.ndarray}


def test_a_copied_step_folder_needs_nothing_else(tmp_path, params, tokenizer, config):
    """What is copied to another machine is the step's folder alone."""
    folder = saved(tmp_path / "checkpoints", params, tokenizer, config)
    (tmp_path / "elsewhere").mkdir()
    copy = (folder / "7").rename(tmp_path / "elsewhere" / "7")
    opened = open_model(copy)
    assert (opened.step, opened.config) == (7, config)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 7), opened.params, params)


def test_state_saved_on_one_mesh_is_restored_on_another(tmp_path, params, tokenizer, config):
    laid = jax.tree.map(jax.device_put, params, parameter_shardings(make_mesh(MeshShape(data=2, fsdp=4)), config))
    moments = {"mu": jax.tree.map(lambda x: x * 2, laid), "count": jnp.int32(9)}
    with CheckpointFolder(tmp_path) as checkpoints:
        checkpoints.save(1, laid, tokenizer, Card(config), moments)
        checkpoints.wait()
        for shape in (MeshShape(fsdp=2, data=2, tensor=2), MeshShape(data=8, fsdp=1), MeshShape(fsdp=2, context=4)):
            abstract = on_mesh(config, shape)
            wanted = {"mu": abstract, "count": jax.ShapeDtypeStruct((), jnp.int32)}
            restored, opt_state = checkpoints.restore(1, abstract, wanted)
            jax.tree.map(np.testing.assert_array_equal, restored, params)
            jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, 2 * b), opt_state["mu"], params)
            assert int(opt_state["count"]) == 9
            for leaf, expected in zip(jax.tree.leaves(restored), jax.tree.leaves(abstract), strict=True):
                assert leaf.sharding == expected.sharding


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mlp_dim": 56}, "parameter ['layers']['w_down'] of shape (2, 48, 32), the config wants (2, 56, 32)"),
        ({"num_layers": 3}, "the config wants (3, "),
        ({"vocab_size": 408}, "parameter ['embedding'] of shape (400, 32), the config wants (408, 32)"),
        ({"qk_norm": True}, "has no parameter ['layers']['k_norm']"),
    ],
)
def test_another_shape_is_refused_by_the_parameters_name(tmp_path, params, tokenizer, config, change, named):
    saved(tmp_path, params, tokenizer, config)
    with CheckpointFolder(tmp_path) as checkpoints, pytest.raises(UserError) as refusal:
        checkpoints.restore(7, abstract_parameters(replace(config, **change)))
    assert named in str(refusal.value)
    assert str(tmp_path / "7") in str(refusal.value)


def test_only_the_newest_are_kept(tmp_path, params, tokenizer, config):
    saved(tmp_path, params, tokenizer, config, steps=(1, 2, 3, 4), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["3", "4"]


def test_the_last_the_round_the_best_and_the_named_ones_are_kept(tmp_path, params, tokenizer, config):
    figures = {1: 3.0, 2: 1.0, 3: 2.0, 4: None, 5: 4.0, 6: 5.0, 7: 6.0}
    retention = Retention(last=1, every=5, best=2, always=(4,))
    for steps in ((1, 2, 3, 4), (5, 6, 7)):  # closed and opened in between: the figures are in the cards
        with CheckpointFolder(tmp_path, retention) as checkpoints:
            for step in steps:
                heldout = {} if figures[step] is None else {"heldout/cross_entropy": figures[step]}
                checkpoints.save(step, params, tokenizer, Card(config, heldout=heldout))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["2", "3", "4", "5", "7"]


def test_saved_on_8x1_it_gives_the_same_logits_on_2x4_and_on_one_device(tmp_path, params, tokenizer, config):
    tokens = jnp.arange(8 * 16, dtype=jnp.int32).reshape(8, 16) % 400
    positions, segments = jnp.tile(jnp.arange(16), (8, 1)), jnp.ones((8, 16), jnp.int32)

    def logits(laid):
        on_host = jax.tree.map(np.asarray, laid)
        hidden, _ = Decoder(config).apply({"params": on_host}, tokens, positions, segments)
        return np.asarray(hidden @ unembedding(config, on_host).T)

    laid = jax.tree.map(jax.device_put, params, parameter_shardings(make_mesh(MeshShape(data=8, fsdp=1)), config))
    with CheckpointFolder(tmp_path) as checkpoints:
        checkpoints.save(1, laid, tokenizer, Card(config))
        checkpoints.wait()
        two_by_four, _ = checkpoints.restore(1, on_mesh(config, MeshShape(data=2, fsdp=4)))
        alone, _ = checkpoints.restore(1, abstract_parameters(config))
    assert len(two_by_four["embedding"].sharding.device_set) == 8
    assert len(alone["embedding"].sharding.device_set) == 1
    for restored in (two_by_four, alone):
        np.testing.assert_array_equal(logits(restored), logits(laid))


def test_restored_in_another_dtype_it_is_the_rounded_one(tmp_path, params, tokenizer, config):
    saved(tmp_path, params, tokenizer, config, steps=(1,))
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), abstract_parameters(config))
    with CheckpointFolder(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore(1, wanted)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, (b + 1).astype(jnp.bfloat16)), restored, params)


def test_folders_without_a_checkpoint_are_refused(tmp_path):
    with pytest.raises(UserError, match="absent does not exist"):
        open_model(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no finished checkpoint"):
        open_model(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file does not exist"):
        open_model(tmp_path / "file")
