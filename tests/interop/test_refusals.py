"""A model that is nearly but not quite of a known family is refused by the field, never imported wrong."""

import json
import re

import gguf
import jax
import numpy as np
import pytest
from huggingface_folder import LLAMA, llama_tensors, write_folder
from small_gguf import CONFIG, write_small_gguf

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.families import FAMILIES, family_of
from demiurgic_jax.interop.gguf_file import GgufFile
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params

MISTRAL = LLAMA | {"model_type": "mistral", "sliding_window": 64}
GEMMA = LLAMA | {"model_type": "gemma", "hidden_act": "gelu_pytorch_tanh"}
STARCODER2 = LLAMA | {"model_type": "starcoder2", "hidden_act": "gelu_pytorch_tanh", "norm_epsilon": 1e-5}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            GEMMA | {"model_type": "gemma3_text"},
            "model_type 'gemma3_text' cannot be imported; known are llama, mistral",
        ),
        (GEMMA | {"hidden_act": "silu"}, "hidden_act='silu'"),
        (GEMMA | {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
        (GEMMA | {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        (STARCODER2 | {"use_bias": False}, "use_bias=False"),
        (STARCODER2 | {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        (STARCODER2 | {"sliding_window": 64}, "sliding_window=64 is shorter than the context of 128"),
        (MISTRAL, "(max_context=64)"),
        (LLAMA | {"mlp_bias": True}, "mlp_bias=True"),
        (LLAMA | {"architectures": ["LlamaForSequenceClassification"]}, "architectures=['LlamaForSequenceClass"),
        (LLAMA | {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types has 'sliding_attention'"),
        (LLAMA | {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "rope_parameters differ by kind"),
        (LLAMA | {"num_local_experts": 8}, "num_local_experts=8"),
    ],
)
def test_a_field_of_config_json_that_is_not_computed_is_named(config, said, tmp_path):
    folder = write_folder(tmp_path, config, llama_tensors(LLAMA))
    with pytest.raises(UserError, match=re.escape(said)) as refusal:
        import_model(folder)
    assert str(folder / "config.json") in str(refusal.value)


def test_within_its_window_a_mistral_is_a_llama(tmp_path):
    tensors = llama_tensors(LLAMA)
    windowed = import_model(write_folder(tmp_path / "mistral", MISTRAL, tensors), max_context=64)
    llama = import_model(write_folder(tmp_path / "llama", LLAMA, tensors), max_context=64)
    assert windowed.config == llama.config
    assert windowed.config.max_context == 64


def test_a_misnamed_tensor_is_named_with_the_one_that_it_may_be(tmp_path):
    tensors = llama_tensors(LLAMA)
    tensors["transformer.layers.1.mlp.up_proj.weight"] = tensors.pop("model.layers.1.mlp.up_proj.weight")
    said = "no tensor 'model.layers.1.mlp.up_proj.weight'.*'transformer.layers.1.mlp.up_proj.weight': is it misnamed"
    with pytest.raises(UserError, match=said):
        import_model(write_folder(tmp_path, LLAMA, tensors))


def test_weights_that_are_no_safetensors_are_named(tmp_path):
    folder = write_folder(tmp_path, LLAMA, llama_tensors(LLAMA))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no model.safetensors \(there is pytorch_model.bin\)"):
        import_model(folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("llama.expert_count", 8, "llama.expert_count=8 cannot be imported"),
        ("llama.attention.sliding_window", 64, "llama.attention.sliding_window=64 is shorter than the context of 128"),
        ("llama.rope.dimension_count", 4, "llama.rope.dimension_count=4 cannot be imported, only 8"),
        ("llama.attention.value_length", 16, "llama.attention.value_length=16 cannot be imported, only 8"),
    ],
)
def test_a_field_of_a_gguf_that_is_not_computed_is_named(key, value, said, tmp_path):
    params = jax.tree.map(np.asarray, init_params(Decoder(CONFIG), jax.random.key(0)))
    path = tmp_path / "model.gguf"
    write_small_gguf(path, params, {}, lambda writer: writer.add_uint32(key, value))
    with pytest.raises(UserError, match=re.escape(said)):
        import_model(path)


def test_scaled_frequencies_that_are_not_llama_3s_are_refused(tmp_path):
    params = jax.tree.map(np.asarray, init_params(Decoder(CONFIG), jax.random.key(0)))
    path = tmp_path / "model.gguf"
    scaled = np.array([1.0, 1.5, 3.0, 8.0], np.float32)
    write_small_gguf(path, params, {}, lambda writer: writer.add_tensor("rope_freqs.weight", scaled))
    with pytest.raises(UserError, match=r"rope_freqs.weight scales the rotary frequencies in another way"):
        import_model(path)


def test_every_quantised_kind_that_the_library_takes_apart_is_read(tmp_path):
    """Blocks of random bytes of each kind, beside what the library makes of them."""
    rng = np.random.default_rng(0)
    kinds = [kind for kind in gguf.GGMLQuantizationType if kind not in (0, 1, 24, 25, 26, 27, 28, 30)]
    read = []
    for kind in kinds:
        numbers, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 60, (4, 2 * size), np.uint8)
        try:
            wanted = gguf.dequantize(blocks, kind)
        except NotImplementedError:
            continue
        params = jax.tree.map(np.asarray, init_params(Decoder(CONFIG), jax.random.key(0)))
        path = tmp_path / f"{kind.name}.gguf"

        def add(writer, blocks=blocks, kind=kind):
            writer.add_tensor("extra.weight", blocks, raw_dtype=kind)

        write_small_gguf(path, params, {}, add)
        file = GgufFile(path)
        assert file.tensor_shape("extra.weight") == (4, 2 * numbers)
        np.testing.assert_array_equal(file.tensor("extra.weight"), wanted)
        read.append(kind.name)
    assert {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "TQ1_0"} <= {
        *read
    }


def test_every_family_is_found_again_by_its_network_and_others_are_refused_by_their_fields():
    plain = {"vocab_size": 8, "embed_dim": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1}
    plain |= {"head_dim": 8, "mlp_dim": 8}
    for name, family in FAMILIES.items():
        config = ModelConfig(**plain, **family.model_features(16))
        assert family_of(config).name == ("llama" if name == "mistral" else name)
    with pytest.raises(UserError, match=r"qkv_bias=True, qk_norm=True.*known are llama, mistral"):
        family_of(ModelConfig(**plain, qkv_bias=True, qk_norm=True))


def test_an_index_that_names_a_shard_that_is_not_there_is_refused(tmp_path):
    folder = write_folder(tmp_path, LLAMA, llama_tensors(LLAMA), shards=2)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.norm.weight"] = "model-00003-of-00003.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"has no model-00003-of-00003.safetensors"):
        import_model(folder)
