"""SmolLM2-135M out again: the same logits in `transformers`, the same greedy text in llama.cpp."""

import ctypes

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.checkpoints.checkpoint import open_stored
from demiurgic_jax.interop.gguf_export import export_gguf
from demiurgic_jax.interop.huggingface_export import export_huggingface
from demiurgic_jax.interop.imported import write_checkpoint
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.model.decoder import Decoder, init_cache

PROMPT, ANSWER = 32, 32
FACTS = CardFacts("SmolLM2-135M-Instruct", "apache-2.0")
PROMPTS = (
    "def fibonacci(n):",
    "The capital of France is",
    "import os\nimport sys\n\ndef main():",
    "class Stack:\n    def __init__(self):",
    "Once upon a time",
    "for i in range(10):\n    print(",
    "# Sort a list of numbers\ndef sort(",
    "SELECT name FROM users WHERE",
    "The quick brown fox",
    'def is_prime(n):\n    """Return whether n is prime."""\n',
)


@pytest.fixture(scope="module")
def source(smollm2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2") / "ours"
    write_checkpoint(smollm2, folder)
    return open_stored(folder)


@pytest.fixture(scope="module")
def answers(smollm2):
    """Our own greedy answers, all prompts at once."""
    decoder, params = Decoder(smollm2.config), jax.tree.map(jnp.asarray, smollm2.params)

    @jax.jit
    def step(tokens, positions, cache, last):
        hidden, cache = decoder.apply({"params": params}, tokens, positions, cache=cache)
        picked = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
        return decoder.apply({"params": params}, picked, method="unembed").argmax(-1), cache

    ids = [smollm2.tokenizer.encode(prompt) for prompt in PROMPTS]
    lengths = np.array([len(each) for each in ids])
    tokens = np.stack([np.pad(each, (0, PROMPT - len(each))) for each in ids])
    positions = np.broadcast_to(np.arange(PROMPT), tokens.shape)
    # Padding is written past the cache, where it is dropped.
    positions = np.where(positions < lengths[:, None], positions, PROMPT + ANSWER)
    cache = init_cache(smollm2.config, len(ids), PROMPT + ANSWER)
    token, cache = step(tokens, positions, cache, lengths - 1)
    made = [np.asarray(token)]
    for index in range(ANSWER - 1):
        token, cache = step(np.asarray(token)[:, None], (lengths + index)[:, None], cache, np.zeros_like(lengths))
        made.append(np.asarray(token))
    eos = smollm2.tokenizer.special.eos
    return ids, [until(eos, row.tolist()) for row in np.stack(made, axis=1)]


def until(eos, ids):
    return ids[: ids.index(eos)] if eos in ids else ids


@pytest.mark.slow
def test_transformers_gives_its_logits_and_its_text(smollm2, source, answers, tmp_path):
    torch = pytest.importorskip("torch", reason="transformers needs it to run a model")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    export_huggingface(source, tmp_path / "out", FACTS)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for prompt, ids, wanted in zip(PROMPTS, *answers, strict=True):
        assert tokenizer(prompt).input_ids == ids
        found = theirs.generate(torch.tensor([ids]), max_new_tokens=ANSWER, do_sample=False)[0, len(ids) :]
        assert until(smollm2.tokenizer.special.eos, found.tolist()) == wanted
    ids = np.array([smollm2.tokenizer.encode("def add(a, b):\n    return a + b\n" * 4)])
    hidden, _ = Decoder(smollm2.config).apply({"params": smollm2.params}, ids, np.arange(ids.shape[1])[None])
    logits = Decoder(smollm2.config).apply({"params": smollm2.params}, hidden, method="unembed")
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=2e-4)


@pytest.fixture
def llama_cpp(monkeypatch):
    """llama.cpp without its second layouts of quantised weights.

    One of them is for Intel's tile registers (AMX), and where llama.cpp was built by an old GCC (12.2 is) the processor
    refuses their set-up (llama.cpp's issue 20824): any quantised file, its own too, ends in a segmentation fault.
    """
    module = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    defaults = module.llama_cpp.llama_model_default_params

    def without_extra_buffers():
        params = defaults()
        params.use_extra_bufts = False
        return params

    monkeypatch.setattr(module.llama_cpp, "llama_model_default_params", without_extra_buffers)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "q8_0"])
def test_llama_cpp_gives_its_text(kind, llama_cpp, smollm2, source, answers, tmp_path):
    export_gguf(source, tmp_path / "out.gguf", FACTS, kind=kind)
    # Its cache is float16 unless told.
    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    llama = llama_cpp.Llama(str(tmp_path / "out.gguf"), n_ctx=128, n_threads=1, verbose=False, **exact)
    same = 0
    for prompt, ids, wanted in zip(PROMPTS, *answers, strict=True):
        assert llama.tokenize(prompt.encode(), add_bos=False, special=False) == ids
        llama.reset()
        made = llama.generate(ids, temp=0.0, repeat_penalty=1.0)
        found = [token for token, _ in zip(made, range(ANSWER), strict=False)]
        same += until(smollm2.tokenizer.special.eos, found) == wanted
    print(f"{kind}: {same} of {len(PROMPTS)} answers are the same")
    # Eight bits round: where two tokens are as likely, another one may win.
    assert same == len(PROMPTS) if kind == "float32" else same >= len(PROMPTS) // 2


@pytest.mark.slow
def test_llama_cpp_makes_the_very_bytes_of_q8_0(llama_cpp, source, tmp_path):
    """Its own quantiser, given our float32 file, and ours."""
    gguf = pytest.importorskip("gguf")
    paths = {name: tmp_path / f"{name}.gguf" for name in ("float32", "q8_0", "theirs")}
    for kind in ("float32", "q8_0"):
        export_gguf(source, paths[kind], FACTS, kind=kind)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, 1
    paths_given = (str(paths[name]).encode() for name in ("float32", "theirs"))
    assert llama_cpp.llama_model_quantize(*paths_given, ctypes.byref(params)) == 0
    ours, theirs = (
        {tensor.name: tensor for tensor in gguf.GGUFReader(paths[name]).tensors} for name in ("q8_0", "theirs")
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.tensor_type == theirs[name].tensor_type, name
        np.testing.assert_array_equal(tensor.data, theirs[name].data, name)
