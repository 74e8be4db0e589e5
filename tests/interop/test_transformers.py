"""Every family in and out: the logits that `transformers` gives before, ours between, and `transformers`' after."""

import jax
import numpy as np
import pytest
from huggingface_folder import VOCAB_SIZE, write_tokenizer
from safetensors.numpy import load_file

from demiurgic_jax.checkpoints.checkpoint import open_stored
from demiurgic_jax.interop.gguf_export import export_gguf
from demiurgic_jax.interop.huggingface_export import export_huggingface
from demiurgic_jax.interop.imported import import_model, open_unread, write_checkpoint
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.model.decoder import Decoder

torch = pytest.importorskip("torch", reason="transformers needs it to run a model")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": 256,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

MODELS = {
    "llama": ("Llama", {}),
    "smollm": (
        "Llama",
        {"tie_word_embeddings": True, "hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3},
    ),
    "llama_linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    "llama_llama3": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "mistral_wide_window": ("Mistral", {"sliding_window": 256, "head_dim": 16}),
    "qwen2": ("Qwen2", {}),
    "qwen2_tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "gemma": ("Gemma", {"head_dim": 16}),
    "starcoder2": ("Starcoder2", {}),
    "starcoder2_untied": ("Starcoder2", {"tie_word_embeddings": False}),
}
FACTS = CardFacts("a small model", "mit")


@pytest.fixture(scope="module", params=MODELS)
def theirs(request, tmp_path_factory):
    """A random model of `transformers` as a folder, ids, and its logits for them."""
    family, fields = MODELS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SHAPE | fields)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval().float()
    with torch.no_grad():
        # Fresh gains are ones and fresh biases zeros, which would hide one taken for another.
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    ids = torch.randint(0, VOCAB_SIZE, (2, 40))
    model.save_pretrained(folder / "theirs", max_shard_size="40KB")
    write_tokenizer(folder / "theirs")
    return folder, ids.numpy(), logits_of(model, ids)


@pytest.fixture(scope="module")
def checkpoint(theirs):
    """The same as a checkpoint of ours."""
    folder, _, _ = theirs
    write_checkpoint(open_unread(folder / "theirs"), folder / "ours")
    return open_stored(folder / "ours")


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.as_tensor(ids)).logits.numpy()


def our_logits(model, ids):
    decoder = Decoder(model.config)
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    hidden, _ = decoder.apply({"params": model.params}, ids, positions)
    return np.asarray(decoder.apply({"params": model.params}, hidden, method="unembed"))


def tensors_of(folder):
    return {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}


def test_imported_it_gives_their_logits(theirs):
    folder, ids, expected = theirs
    np.testing.assert_allclose(our_logits(import_model(folder / "theirs"), ids), expected, atol=1e-4)


def test_exported_again_it_loads_with_their_logits_and_the_very_tensors(theirs, checkpoint, tmp_path):
    folder, ids, expected = theirs
    export_huggingface(checkpoint, tmp_path / "out", FACTS, shard_bytes=40_000)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    np.testing.assert_allclose(logits_of(again, ids), expected, atol=1e-4)
    before, after = tensors_of(folder / "theirs"), tensors_of(tmp_path / "out")
    assert before.keys() - {"lm_head.weight"} == after.keys() - {"lm_head.weight"}
    for name, value in after.items():
        assert value.tobytes() == before[name].tobytes(), name
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 1


def test_through_gguf_it_is_the_same_model(theirs, checkpoint, tmp_path):
    folder, ids, expected = theirs
    export_gguf(checkpoint, tmp_path / "out.gguf", FACTS, kind="float32")
    model = import_model(tmp_path / "out.gguf")
    direct = import_model(folder / "theirs")
    assert model.config == direct.config
    np.testing.assert_allclose(our_logits(model, ids), expected, atol=1e-4)
    for ours, wanted in zip(jax.tree.leaves(model.params), jax.tree.leaves(direct.params), strict=True):
        # Gemma's gains are stored with one added, which rounds them.
        np.testing.assert_allclose(ours, wanted, atol=2e-7 if model.config.norm == "rms_plus_one" else 0)
