"""GGUF files of our own making: what is written is what is imported, and damage is never a traceback."""

import random
import sys

import gguf
import jax
import numpy as np
import pytest
from small_gguf import CONFIG, write_small_gguf

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.model.decoder import Decoder, init_params


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(np.asarray, init_params(Decoder(CONFIG), jax.random.key(0)))


@pytest.fixture(scope="module")
def small_gguf(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    kinds = {"w_gate": gguf.GGMLQuantizationType.Q8_0, "wv": gguf.GGMLQuantizationType.F16}
    write_small_gguf(path, params, kinds)
    return path


def test_an_untied_model_comes_back_as_it_was(params, small_gguf):
    model = import_model(small_gguf)
    assert model.config == CONFIG
    assert (model.licence, model.tokenizer.decode([model.tokenizer.special.eos])) == ("mit", "<|end|>")
    assert model.tokenizer.encode("abc1") == [257, ord("1")]
    exact = jax.tree.map(np.array_equal, model.params, params)
    assert [name for name, same in exact["layers"].items() if not same] == ["w_gate", "wv"]
    assert all(exact[name] for name in ("embedding", "unembedding", "final_norm"))
    largest = np.abs(params["layers"]["w_gate"]).max()
    assert np.abs(model.params["layers"]["w_gate"] - params["layers"]["w_gate"]).max() < largest / 127
    np.testing.assert_array_equal(model.params["layers"]["wv"], params["layers"]["wv"].astype(np.float16))


def test_any_damage_is_one_sentence_or_another_whole_model(small_gguf, tmp_path):
    whole = small_gguf.read_bytes()
    header = whole.index(b"blk.1.ffn_down.weight")
    path = tmp_path / "damaged.gguf"
    generator = random.Random(2)
    refusals = []
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(header)] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            model = import_model(path)
        except UserError as error:
            refusals.append(str(error))
        else:
            assert sum(x.size for x in jax.tree.leaves(model.params)) == model.config.num_parameters
    assert len(refusals) > 100
    assert not any("\n" in sentence for sentence in refusals)


def test_any_truncation_is_refused(small_gguf, tmp_path):
    whole = small_gguf.read_bytes()
    path = tmp_path / "short.gguf"
    for length in [0, 4, 23, len(whole) - 1, *random.Random(3).sample(range(len(whole)), 100)]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"short\.gguf"):
            import_model(path)


def test_another_architecture_is_refused_by_name(tmp_path):
    path = tmp_path / "falcon.gguf"
    writer = gguf.GGUFWriter(str(path), "falcon")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match=r"'falcon' model, which cannot be imported; known are .*llama"):
        import_model(path)


def test_a_missing_gguf_library_is_named_with_the_extra_that_brings_it(small_gguf, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"demiurgic_jax\[gguf\]"):
        import_model(small_gguf)
