"""A checkpoint is self-contained, opens on any mesh, and says by name what does not fit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.checkpoints.checkpoint import Card, CheckpointFolder, open_model
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.rules import parameter_shardings


def saved(folder, params, tokenizer, config, steps=(7,), *, keep=None):
    with CheckpointFolder(folder, keep=keep) as checkpoints:
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
        assert opened.card == Card(config, f"data-{opened.step}", {"teacher": "none"})
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


def test_folders_without_a_checkpoint_are_refused(tmp_path):
    with pytest.raises(UserError, match="absent does not exist"):
        open_model(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no finished checkpoint"):
        open_model(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file does not exist"):
        open_model(tmp_path / "file")
