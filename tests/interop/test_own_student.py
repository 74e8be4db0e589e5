"""A student with a tokenizer of our own training, exported: the same ids and the same text as here, in `transformers`
and in llama.cpp."""

import random
import sysconfig
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder, open_stored
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.interop.gguf_export import export_gguf
from demiurgic_jax.interop.huggingface_export import export_huggingface, tokenizer_files
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_cache, init_params

FILES, LONGEST = 1000, 60_000
PROMPT_TOKENS, GREEDY_TOKENS = 12, 24
FACTS = CardFacts("a student")
ODD = " a  b\n\t\r\n1234 é \U0001f600\x00▁ <|im_end|> <0x41>▁▁\n\n\n        return"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real code: what this Python came with, and what is installed beside it."""
    paths = sysconfig.get_paths()
    files = sorted({file for folder in ("stdlib", "purelib") for file in Path(paths[folder]).rglob("*.py")})
    random.Random(0).shuffle(files)
    found: list[str] = []
    for file in files:
        try:
            text = file.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        if 0 < len(text) < LONGEST:
            found.append(text)
        if len(found) == FILES:
            break
    assert len(found) == FILES
    return found


@pytest.fixture(scope="module")
def tokenizer(texts):
    return train_sentencepiece(texts[:100], 2000)


@pytest.fixture(scope="module")
def ids(tokenizer, texts):
    return [tokenizer.encode(text) for text in texts]


@pytest.fixture(scope="module")
def student(tokenizer, tmp_path_factory):
    """A checkpoint whose embedding has more rows than the tokenizer ids, as a run's has."""
    folder = tmp_path_factory.mktemp("student")
    config = ModelConfig(2048, 64, 2, 4, 2, 16, 128, max_context=256)
    params = jax.tree.map(np.asarray, init_params(Decoder(config), jax.random.key(0)))
    with CheckpointFolder(folder / "checkpoints") as checkpoints:
        checkpoints.save(3, params, tokenizer, Card(config))
    export_huggingface(open_stored(folder / "checkpoints"), folder / "hf", FACTS)
    export_gguf(open_stored(folder / "checkpoints"), folder / "student.gguf", FACTS, kind="float32")
    return folder, config, params


@pytest.fixture(scope="module")
def greedy(student, ids):
    """Our own answers to the beginnings of ten files."""
    _, config, params = student
    return [greedy_ids(config, params, prompt[:PROMPT_TOKENS]) for prompt in ids[:10]]


def greedy_ids(config, params, prompt):
    decoder = Decoder(config)

    @jax.jit
    def step(tokens, positions, cache):
        hidden, cache = decoder.apply({"params": params}, tokens, positions, cache=cache)
        return decoder.apply({"params": params}, hidden[:, -1], method="unembed").argmax(-1), cache

    cache = init_cache(config, 1, len(prompt) + GREEDY_TOKENS)
    tokens, answer = np.array([prompt]), []
    for _ in range(GREEDY_TOKENS):
        start = len(prompt) + len(answer) - tokens.shape[1]
        token, cache = step(jnp.asarray(tokens), jnp.arange(tokens.shape[1])[None] + start, cache)
        answer.append(int(token[0]))
        tokens = np.array([[answer[-1]]])
    return answer


def test_tokenizer_json_gives_the_ids_of_a_thousand_files(tokenizer, texts, ids):
    theirs = tokenizers.Tokenizer.from_str(tokenizer_files(tokenizer)["tokenizer.json"].decode())
    assert theirs.encode(ODD).ids == tokenizer.encode(ODD, allow_special=True)
    theirs.encode_special_tokens = True
    for text, wanted in zip([*texts, ODD], [*ids, tokenizer.encode(ODD)], strict=True):
        assert theirs.encode(text, add_special_tokens=False).ids == wanted
        assert theirs.decode(wanted, skip_special_tokens=False) == text


def test_gguf_gives_it_back(student, tokenizer, texts):
    folder, config, params = student
    model = import_model(folder / "student.gguf")
    assert model.config == config
    # All of it but ▁, which SentencePiece and llama.cpp take for a space.
    for text in [*texts[:50], ODD.replace("▁", "")]:
        assert "▁" in text or model.tokenizer.encode(text) == tokenizer.encode(text)
    assert model.tokenizer.special == tokenizer.special
    assert model.tokenizer.chat_template == tokenizer.chat_template
    jax.tree.map(np.testing.assert_array_equal, model.params, params)


def test_transformers_gives_the_same_ids_and_the_same_text(student, texts, ids, greedy):
    torch = pytest.importorskip("torch", reason="transformers needs it to run a model")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder, _, _ = student
    theirs = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    for text, wanted in zip(texts, ids, strict=True):
        assert theirs(text, split_special_tokens=True).input_ids == wanted
    chat = [{"role": "user", "content": "hello"}]
    assert theirs.apply_chat_template(chat, tokenize=False).startswith("<|im_start|>user\nhello<|im_end|>")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf").eval()
    for prompt, wanted in zip(ids, greedy, strict=False):
        given = torch.tensor([prompt[:PROMPT_TOKENS]])
        answer = model.generate(given, max_new_tokens=GREEDY_TOKENS, do_sample=False, eos_token_id=[])
        assert answer[0, PROMPT_TOKENS:].tolist() == wanted


def test_llama_cpp_gives_the_same_ids_and_the_same_text(student, texts, ids, greedy):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder, _, _ = student
    # Its cache is float16 unless told: of a random network's tokens the likeliest is so by less.
    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    llama = llama_cpp.Llama(str(folder / "student.gguf"), n_ctx=256, n_threads=1, verbose=False, **exact)
    for text, wanted in zip(texts, ids, strict=True):
        if "▁" not in text and "\x00" not in text:
            assert llama.tokenize(text.encode(), add_bos=False, special=False) == wanted
    assert llama.metadata["tokenizer.ggml.fim_mid_token_id"] == "5"
    for prompt, wanted in zip(ids, greedy, strict=False):
        llama.reset()
        answers = llama.generate(prompt[:PROMPT_TOKENS], temp=0.0, repeat_penalty=1.0)
        assert [token for token, _ in zip(answers, range(GREEDY_TOKENS), strict=False)] == wanted
