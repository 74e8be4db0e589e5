"""In, trained, out again; and straight to where the parameters are to lie."""

from functools import partial

import jax
import ml_dtypes
import numpy as np
import optax
import pytest
from huggingface_folder import LLAMA, llama_tensors, write_folder
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import load_file
from small_gguf import CONFIG, write_small_gguf

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder, open_model, open_stored
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop import reading
from demiurgic_jax.interop.gguf_export import KINDS, export_gguf
from demiurgic_jax.interop.huggingface_export import export_huggingface
from demiurgic_jax.interop.imported import import_model, open_config, open_unread, write_checkpoint
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.rules import parameter_shardings

FACTS = CardFacts("round trip", "mit")
EVEN = LLAMA | {"vocab_size": 264, "num_key_value_heads": 2}


def even_tensors():
    """Sizes that a mesh of eight divides."""
    tensors = llama_tensors(LLAMA)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = np.concatenate([tensors[name], tensors[name][:4]])
    return {name: value.astype(ml_dtypes.bfloat16) for name, value in tensors.items()}


@pytest.mark.parametrize("mesh", [MeshShape(fsdp=8), MeshShape(data=2, fsdp=2, tensor=2)])
def test_on_a_mesh_each_device_gets_its_part_and_no_more_is_read(mesh, tmp_path, monkeypatch):
    folder = write_folder(tmp_path, EVEN, even_tensors(), shards=2)
    parts = []
    fill = reading.fill_from_stored
    monkeypatch.setattr(reading, "fill_from_stored", lambda out, *rest: (parts.append(out.size), fill(out, *rest)))
    shardings = partial(parameter_shardings, make_mesh(mesh))
    spread = import_model(folder, shardings=shardings, dtype=None)
    read = sum(parts)
    whole = import_model(folder, dtype=None)
    for wanted, sharding, found in zip(
        *map(jax.tree.leaves, (whole.params, shardings(whole.config), spread.params)), strict=True
    ):
        assert found.sharding == sharding
        assert found.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(np.asarray(found), wanted)
    # Each number once, also what several devices hold.
    assert read == whole.config.num_parameters


def test_trained_it_goes_out_again_as_what_it_has_become(tmp_path):
    folder = write_folder(tmp_path / "theirs", LLAMA, llama_tensors(LLAMA))
    write_checkpoint(open_unread(folder), tmp_path / "imported")
    opened = open_model(tmp_path / "imported")
    assert opened.card.provenance["imported_from"] == "theirs"
    decoder, optimizer = Decoder(opened.config), optax.sgd(0.1)
    tokens = np.random.default_rng(0).integers(0, 256, (2, 16))

    @jax.jit
    def step(params, state):
        def loss(params):
            hidden, _ = decoder.apply({"params": params}, tokens, np.broadcast_to(np.arange(16), (2, 16)))
            logits = decoder.apply({"params": params}, hidden, method="unembed")
            return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:]).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    params, losses = jax.tree.map(jax.numpy.asarray, opened.params), []
    state = optimizer.init(params)
    for _ in range(4):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[-1] < losses[0]
    with CheckpointFolder(tmp_path / "trained") as checkpoints:
        checkpoints.save(4, params, opened.tokenizer, Card(opened.config, provenance=opened.card.provenance))
    export_huggingface(open_stored(tmp_path / "trained"), tmp_path / "out", FACTS)
    again = import_model(tmp_path / "out")
    assert again.config == opened.config
    assert again.licence == "mit"
    for before, after, out in zip(*map(jax.tree.leaves, (opened.params, params, again.params)), strict=True):
        np.testing.assert_array_equal(out, after)
        assert not np.array_equal(out, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gguf_of_each_kind_holds_what_went_in_as_exactly_as_it_can(kind, tmp_path):
    params = jax.tree.map(np.asarray, init_params(Decoder(CONFIG), jax.random.key(0)))
    write_small_gguf(tmp_path / "in.gguf", params, {})
    write_checkpoint(open_unread(tmp_path / "in.gguf"), tmp_path / "ours")
    export_gguf(open_stored(tmp_path / "ours"), tmp_path / "out.gguf", FACTS, kind=kind)
    again = import_model(tmp_path / "out.gguf")
    assert again.config == CONFIG
    for name, value in params["layers"].items():
        found = again.params["layers"][name]
        if kind == "float32" or "norm" in name:
            wanted = value
        elif kind == "q8_0":
            np.testing.assert_allclose(found, value, atol=np.abs(value).max() / 127)
            continue
        else:
            wanted = value.astype({"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[kind]).astype(np.float32)
        np.testing.assert_array_equal(found, wanted)


def test_numbers_that_float16_cannot_hold_are_refused_by_tensor_and_nothing_is_left(tmp_path):
    tensors = llama_tensors(LLAMA)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = 1e6
    write_checkpoint(import_model(write_folder(tmp_path / "in", LLAMA, tensors)), tmp_path / "ours")
    source = open_stored(tmp_path / "ours")
    with pytest.raises(UserError, match=r"'model.layers.1.mlp.up_proj.weight' has numbers that float16 cannot hold"):
        export_huggingface(source, tmp_path / "out", FACTS, dtype=np.dtype(np.float16))
    with pytest.raises(UserError, match=r"'blk.1.ffn_up.weight' has numbers that float16 cannot hold"):
        export_gguf(source, tmp_path / "out.gguf", FACTS, kind="float16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "ours"]


def test_each_tensor_keeps_the_numbers_that_it_is_stored_in(tmp_path):
    tensors = llama_tensors(LLAMA)
    for name in tensors:
        if "norm" not in name:
            tensors[name] = tensors[name].astype(ml_dtypes.bfloat16)
    write_checkpoint(import_model(write_folder(tmp_path / "in", LLAMA, tensors), dtype=None), tmp_path / "ours")
    export_huggingface(open_stored(tmp_path / "ours"), tmp_path / "out", FACTS)
    out = load_file(tmp_path / "out" / "model.safetensors")
    assert out.keys() == tensors.keys()
    for name, value in tensors.items():
        assert (out[name].dtype, out[name].tobytes()) == (value.dtype, value.tobytes()), name


def test_the_shape_is_known_without_a_tensor_read(tmp_path):
    folder = write_folder(tmp_path, LLAMA, llama_tensors(LLAMA))
    assert open_config(folder) == import_model(folder).config


def test_replicated_arrays_are_laid_out_too(tmp_path):
    folder = write_folder(tmp_path, LLAMA, llama_tensors(LLAMA))
    everywhere = NamedSharding(make_mesh(MeshShape(fsdp=8)), PartitionSpec())
    model = import_model(
        folder, shardings=lambda config: jax.tree.map(lambda _: everywhere, abstract_parameters(config))
    )
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(model.params))


@pytest.mark.parametrize("export", [export_huggingface, export_gguf])
def test_a_flipped_bit_is_found_by_an_export_which_then_leaves_nothing(export, tmp_path):
    write_folder(tmp_path / "theirs", LLAMA, llama_tensors(LLAMA))
    model = import_model(tmp_path / "theirs", dtype=None)
    write_checkpoint(model, tmp_path / "ours")
    needle = np.ascontiguousarray(model.params["layers"]["w_up"][1]).tobytes()
    (file,) = [each for each in (tmp_path / "ours").rglob("*") if each.is_file() and needle in each.read_bytes()]
    content = bytearray(file.read_bytes())
    content[content.index(needle) + 5] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"its \['layers'\]\['w_up'\] is not what was saved"):
        export(open_stored(tmp_path / "ours"), tmp_path / "out", FACTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]
