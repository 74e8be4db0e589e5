"""A damaged checkpoint is never taken for a whole one: the one before takes its place, and it is said aloud."""

import random
import shutil
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_checkpoint import saved

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder, open_model
from demiurgic_jax.checkpoints.digest import digests
from demiurgic_jax.checkpoints.reading import DamagedCheckpointError
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.rules import parameter_shardings


@pytest.fixture(scope="module")
def two(params, tokenizer, config, tmp_path_factory):
    """Checkpoints 1 and 2 with optimizer moments; checkpoint n's parameters are `params` + n."""
    folder = tmp_path_factory.mktemp("two")
    with CheckpointFolder(folder) as checkpoints:
        for step in (1, 2):
            moved = jax.tree.map(lambda x, step=step: x + step, params)
            checkpoints.save(step, moved, tokenizer, Card(config), {"mu": moved, "count": np.int32(step)})
    return folder


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def restored(folder, config):
    """(the newest whole step, its parameters, its moments, the steps reported as damaged)."""
    abstract, reported = abstract_parameters(config), []
    moments = {"mu": abstract, "count": jax.ShapeDtypeStruct((), jnp.int32)}
    with CheckpointFolder(folder) as checkpoints:
        step, (params, opt_state) = checkpoints.newest_whole(
            lambda step: (step, checkpoints.restore(step, abstract, moments)), lambda step, _: reported.append(step)
        )
    return step, params, opt_state, reported


def assert_is_step(params, opt_state, original, step):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + step), params, original)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + step), opt_state["mu"], original)
    assert int(opt_state["count"]) == step


def test_a_flipped_bit_in_any_file_is_found_or_harmless(two, params, config, tmp_path):
    """Orbax keeps notes that no reading depends on (when a checkpoint was begun): those may change."""
    names = [path.relative_to(two) for path in files(two / "2") if "tokenizer" not in path.parts]
    assert len(names) > 8
    found = 0
    for name in names:
        folder = tmp_path / f"{zlib.crc32(str(name).encode())}"
        shutil.copytree(two, folder)
        content = bytearray((folder / name).read_bytes())
        dice = random.Random(str(name))
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        (folder / name).write_bytes(content)
        step, restored_params, opt_state, reported = restored(folder, config)
        assert reported == ([2] if step == 1 else [])
        assert_is_step(restored_params, opt_state, params, step)
        found += step == 1
        shutil.rmtree(folder)
    assert found >= 4


def test_a_flipped_bit_in_the_largest_arrays_is_always_found(two, params, config, tmp_path):
    largest = max(files(two / "2" / "params"), key=lambda path: path.stat().st_size)
    for seed in range(8):
        folder = tmp_path / str(seed)
        shutil.copytree(two, folder)
        content = bytearray(largest.read_bytes())
        content[random.Random(seed).randrange(len(content) // 10, len(content) * 9 // 10)] ^= 1 << seed
        (folder / largest.relative_to(two)).write_bytes(content)
        with pytest.raises(DamagedCheckpointError) as refusal:
            open_model(folder)
        assert str(folder / "2") in str(refusal.value)
        assert open_model(folder / "1").step == 1


@pytest.mark.parametrize("item", ["params", "optimizer", "card"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_the_one_before_takes_its_place(two, params, config, tmp_path, item, damage):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    if damage == "missing":
        shutil.rmtree(folder / "2" / item)
    else:
        path = max(files(folder / "2" / item), key=lambda path: path.stat().st_size)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    step, restored_params, opt_state, reported = restored(folder, config)
    assert (step, reported) == (1, [2])
    assert_is_step(restored_params, opt_state, params, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2.damaged"]


def test_step_2_can_be_saved_again_after_it_was_found_damaged(two, params, tokenizer, config, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    (folder / "2" / "card" / "metadata").write_text("{")
    abstract = abstract_parameters(config)
    with CheckpointFolder(folder) as checkpoints:
        checkpoints.newest_whole(lambda step: checkpoints.restore(step, abstract), lambda step, damage: None)
        checkpoints.save(2, params, tokenizer, Card(config))
    jax.tree.map(np.testing.assert_array_equal, open_model(folder).params, params)


def test_when_nothing_whole_is_left_that_is_an_error(params, tokenizer, config, tmp_path):
    saved(tmp_path, params, tokenizer, config, steps=(1, 2))
    for step in ("1", "2"):
        shutil.rmtree(tmp_path / step / "params")
    reported = []
    with CheckpointFolder(tmp_path) as checkpoints, pytest.raises(UserError, match="holds no whole checkpoint any"):
        checkpoints.newest_whole(
            lambda step: checkpoints.restore(step, abstract_parameters(config)),
            lambda step, damage: reported.append((step, damage.reason)),
        )
    assert reported == [(2, "its params is missing"), (1, "its params is missing")]


def test_another_tokenizer_in_its_place_is_refused(two, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    path = max(files(folder / "2" / "tokenizer"), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(folder / "2")):
        open_model(folder)


def test_digests_do_not_depend_on_the_mesh_and_see_every_bit_and_place(params, config):
    alone = digests(params)
    for shape in (MeshShape(data=8, fsdp=1), MeshShape(data=2, fsdp=4), MeshShape(fsdp=2, tensor=2, data=2)):
        laid = jax.tree.map(jax.device_put, params, parameter_shardings(make_mesh(shape), config))
        assert digests(laid) == alone
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    seen = {digests({"x": x})["['x']"]}
    for index in range(x.size):
        for bit in range(32):
            other = x.copy()
            other.view(np.uint32).flat[index] ^= np.uint32(1 << bit)
            seen.add(digests({"x": other})["['x']"])
    assert len(seen) == 1 + x.size * 32
    assert digests({"x": x[::-1]}) != digests({"x": x})
    assert digests({"x": x.astype(jnp.bfloat16)}) != digests({"x": x})
