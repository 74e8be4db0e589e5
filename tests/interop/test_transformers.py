"""Against the other side's own code: models that `transformers` makes and saves give its logits here."""

import numpy as np
import pytest
from huggingface_folder import VOCAB_SIZE, write_tokenizer

from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.model.decoder import Decoder

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
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
    "llama_tied": ("Llama", {"tie_word_embeddings": True}),
    "llama_linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    "llama_llama3": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_transformers_gives_its_logits(name, tmp_path):
    family, fields = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SHAPE, **fields)
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).eval().float()
    with torch.no_grad():
        # Fresh gains are ones and fresh biases zeros, which would hide one taken for another.
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        ids = torch.randint(0, VOCAB_SIZE, (2, 40))
        expected = theirs(ids).logits.numpy()
    theirs.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)

    model = import_model(tmp_path)
    decoder = Decoder(model.config)
    positions = np.broadcast_to(np.arange(40), (2, 40))
    hidden, _ = decoder.apply({"params": model.params}, ids.numpy(), positions)
    logits = decoder.apply({"params": model.params}, hidden, method="unembed")
    np.testing.assert_allclose(logits, expected, atol=1e-4)
