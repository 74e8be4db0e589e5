"""Hugging Face folders: the four families give the logits that their tensors say; the rest is refused by name."""

import json

import ml_dtypes
import numpy as np
import numpy_llama
import pytest
from huggingface_folder import LLAMA, llama_tensors, write_folder

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.model.config import RopeScaling
from demiurgic_jax.model.decoder import Decoder

IDS = [5, 77, 200, 3, 3, 120, 256, 9]

VARIANTS = {
    "llama": LLAMA,
    "llama_tied": LLAMA | {"tie_word_embeddings": True},
    "mistral": LLAMA | {"model_type": "mistral", "head_dim": 16, "sliding_window": None},
    "qwen2": LLAMA | {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 4096},
    "qwen3": LLAMA | {"model_type": "qwen3", "head_dim": 16},
}


def our_logits(model):
    decoder = Decoder(model.config)
    positions = np.arange(len(IDS))[None]
    hidden, _ = decoder.apply({"params": model.params}, np.array([IDS]), positions)
    return np.asarray(decoder.apply({"params": model.params}, hidden, method="unembed")[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_family_gives_the_logits_of_its_tensors(variant, tmp_path):
    config = VARIANTS[variant]
    tensors = llama_tensors(config)
    model = import_model(write_folder(tmp_path, config, tensors))
    np.testing.assert_allclose(our_logits(model), numpy_llama.logits(config, tensors, IDS), atol=2e-4)
    assert model.tokenizer.encode("a") == [97]


def test_shards_and_half_precision_give_the_same_weights(tmp_path):
    tensors = {name: value.astype(ml_dtypes.bfloat16) for name, value in llama_tensors(LLAMA).items()}
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(np.float16)
    whole = import_model(write_folder(tmp_path / "whole", LLAMA, tensors))
    sharded = import_model(write_folder(tmp_path / "sharded", LLAMA, tensors, shards=3))
    np.testing.assert_array_equal(whole.params["layers"]["wq"], sharded.params["layers"]["wq"])
    np.testing.assert_array_equal(
        sharded.params["layers"]["w_up"][1], tensors["model.layers.1.mlp.up_proj.weight"].T.astype(np.float32)
    )
    assert sharded.params["final_norm"].dtype == np.float32


@pytest.mark.parametrize(
    ("fields", "theta", "scaling"),
    [
        ({"rope_theta": 1e6}, 1e6, None),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 5e5, RopeScaling("linear", 4.0)),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}}, 1e5, None),
        (
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
            5e5,
            RopeScaling("llama3", 8.0, 64, 1.0, 4.0),
        ),
    ],
)
def test_rotary_fields_of_old_and_new_configs_are_read(fields, theta, scaling, tmp_path):
    model = import_model(write_folder(tmp_path, LLAMA | fields, llama_tensors(LLAMA)))
    assert (model.config.rope_theta, model.config.rope_scaling) == (theta, scaling)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "gemma2"}, "model_type 'gemma2'"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"model_type": "mistral", "sliding_window": 64}, "sliding_window=64"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window=True"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor=None"),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
        ({"num_attention_heads": "four"}, "num_attention_heads='four'"),
        ({"num_hidden_layers": 3}, "'model.layers.2.input_layernorm.weight'"),
        ({"num_hidden_layers": 1}, "'model.layers.1.input_layernorm.weight', which has no place"),
        ({"intermediate_size": 64}, "mlp.gate_proj.weight' of shape (48, 32), its metadata wants (64, 32)"),
        ({"model_type": "qwen2"}, "self_attn.q_proj.bias'"),
        ({"vocab_size": 200}, "tokenizer has 258 ids"),
    ],
)
def test_what_the_decoder_does_not_express_is_named(fields, said, tmp_path):
    folder = write_folder(tmp_path, LLAMA | fields, llama_tensors(LLAMA))
    with pytest.raises(UserError) as refusal:
        import_model(folder)
    assert said in str(refusal.value)
    assert str(folder) in str(refusal.value)


def test_incomplete_folders_are_refused(tmp_path):
    folder = write_folder(tmp_path, LLAMA, llama_tensors(LLAMA), shards=2)
    second = folder / "model-00002-of-00002.safetensors"
    content = second.read_bytes()

    def refused(said):
        with pytest.raises(UserError, match=said):
            import_model(folder)

    second.write_bytes(content[:-1])
    refused("00002-of-00002.safetensors is damaged or cut off")
    second.unlink()
    refused("has no model-00002-of-00002.safetensors")
    second.write_bytes((folder / "model-00001-of-00002.safetensors").read_bytes())
    refused("does not hold tensor")
    second.write_bytes(content)
    (folder / "tokenizer.json").unlink()
    refused("holds no tokenizer")
    (folder / "config.json").write_text("{")
    refused(r"config\.json is not JSON")
    (folder / "config.json").unlink()
    refused(r"has no config\.json")


def test_integer_weights_are_refused(tmp_path):
    tensors = llama_tensors(LLAMA)
    tensors["model.norm.weight"] = np.ones(32, np.int8)
    with pytest.raises(UserError, match=r"'model.norm.weight' is stored as I8"):
        import_model(write_folder(tmp_path, LLAMA, tensors))


def test_licence_is_read_from_the_model_card(tmp_path):
    folder = write_folder(tmp_path, LLAMA, llama_tensors(LLAMA))
    assert import_model(folder).licence is None
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\nlicense: other\n")
    assert import_model(folder).licence == "apache-2.0"


def test_stale_buffers_and_a_tied_copy_are_left_out(tmp_path):
    config = LLAMA | {"tie_word_embeddings": True}
    tensors = llama_tensors(LLAMA) | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}
    model = import_model(write_folder(tmp_path, config, tensors))
    assert model.config.tie_embeddings
    assert "unembedding" not in model.params
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is True
