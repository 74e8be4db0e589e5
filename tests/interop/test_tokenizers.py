"""Vocabularies in and out: SentencePiece models of others, byte-level BPE, and what GGUF says of both."""

import io
import json

import jax
import numpy as np
import pytest
import sentencepiece
import tokenizers
from huggingface_folder import LLAMA, llama_tensors, write_folder

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder, open_stored
from demiurgic_jax.data.fim import fim_prompt
from demiurgic_jax.data.huggingface_tokenizer import HuggingFaceTokenizer, _byte_alphabet
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.byte_level import CUTS
from demiurgic_jax.interop.folder_tokenizer import read_folder_tokenizer
from demiurgic_jax.interop.gguf_export import export_gguf
from demiurgic_jax.interop.gguf_file import GgufFile
from demiurgic_jax.interop.gguf_tokenizer import read_tokenizer
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params

TEXT = "def add(a, b):\n    return a + b\n\n\nclass Héllo:\n\tpass  # 1234 don't\n" * 30
SAMPLES = [
    "def add(x):\n\treturn  x\n",
    " leading",
    "",
    "12345 It's\r\n\n  naïve 日本 \U0001f600",
    "a\n\n\nb   c",
    TEXT,
]
FIM = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]


def foreign_model(**settings) -> bytes:
    """As Llama 2's: a space before every text, <s> and </s>."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.split("\n")),
        model_writer=model,
        **{"model_type": "bpe", "vocab_size": 360, "byte_fallback": True, "normalization_rule_name": "identity"}
        | {"remove_extra_whitespaces": False, "hard_vocab_limit": False, "num_threads": 1, "minloglevel": 2}
        | settings,
    )
    return model.getvalue()


def byte_level(pre: str) -> HuggingFaceTokenizer:
    """A tokenizer.json that cuts text as `pre` does, with FIM and chat markers."""
    cut = CUTS[pre]
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=_byte_alphabet(), special_tokens=FIM, show_progress=False
    )
    learner.train_from_iterator([TEXT], trainer)
    definition = json.loads(learner.to_str())
    definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": list(cut.steps)}
    definition["normalizer"] = cut.normalizer
    definition["model"]["ignore_merges"] = cut.whole_pieces
    definition["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    config = {"eos_token": "<|endoftext|>", "chat_template": "{{ messages[0]['content'] }}<|im_end|>"}
    files = {"tokenizer.json": json.dumps(definition).encode(), "tokenizer_config.json": json.dumps(config).encode()}
    return HuggingFaceTokenizer.from_files(files, "here")


def gguf_with(tokenizer, folder):
    """A small model with that tokenizer, as GGUF."""
    config = ModelConfig(384, 16, 1, 2, 1, 8, 32, max_context=64)
    params = jax.tree.map(np.asarray, init_params(Decoder(config), jax.random.key(0)))
    with CheckpointFolder(folder / "checkpoints") as checkpoints:
        checkpoints.save(0, params, tokenizer, Card(config))
    export_gguf(open_stored(folder / "checkpoints"), folder / "model.gguf", CardFacts("small"), kind="float32")
    return GgufFile(folder / "model.gguf")


def test_a_sentencepiece_model_of_others_gives_its_own_ids(tmp_path):
    content = foreign_model()
    folder = write_folder(tmp_path, LLAMA | {"vocab_size": 260}, llama_tensors(LLAMA))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.model").write_bytes(content)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=content)
    ours = read_folder_tokenizer(folder)
    for text in SAMPLES[:2] + SAMPLES[3:]:
        assert ours.encode(text) == theirs.encode(text), text
        assert ours.decode(theirs.encode(text)) == text
    assert (ours.special.bos, ours.special.eos) == (theirs.bos_id(), theirs.eos_id())
    with pytest.raises(UserError, match=r"tokenizer has .* ids, its config.json vocab_size=260"):
        import_model(folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "unigram"}, "is no BPE model"),
        ({"normalization_rule_name": "nmt_nfkc"}, r"normalises text \(nmt_nfkc\)"),
    ],
)
def test_a_sentencepiece_model_that_works_otherwise_is_refused(settings, said, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(foreign_model(**settings))
    with pytest.raises(UserError, match=said):
        read_folder_tokenizer(tmp_path)


def test_a_sentencepiece_model_of_others_goes_through_gguf(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(foreign_model())
    ours = read_folder_tokenizer(tmp_path)
    file = gguf_with(ours, tmp_path)
    assert file.metadata["tokenizer.ggml.model"] == "llama"
    assert file.metadata["tokenizer.ggml.add_space_prefix"] is True
    assert file.metadata["tokenizer.ggml.add_bos_token"] is True
    again = read_tokenizer(file)
    for text in SAMPLES:
        assert again.encode(text) == ours.encode(text)
    assert again.special == ours.special


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_byte_level_vocabularies_go_through_gguf_with_markers_and_template(pre, tmp_path):
    ours = byte_level(pre)
    file = gguf_with(ours, tmp_path)
    assert file.metadata["tokenizer.ggml.pre"] == pre
    again = read_tokenizer(file)
    for text in SAMPLES:
        assert again.encode(text) == ours.encode(text)
    assert again.special == ours.special
    assert again.chat_template == ours.chat_template
    assert fim_prompt(again, "a", "b") == fim_prompt(ours, "a", "b")
    for theirs, index in (("pre", 0), ("suf", 1), ("mid", 2)):
        assert file.metadata[f"tokenizer.ggml.fim_{theirs}_token_id"] == index
    assert file.metadata["tokenizer.ggml.eot_token_id"] == FIM.index("<|im_end|>")
    # The embedding has more rows than there are pieces.
    assert len(file.metadata["tokenizer.ggml.tokens"]) == 384


def test_a_way_to_cut_text_that_gguf_has_no_name_for_is_refused(tmp_path):
    ours = byte_level("gpt-2")
    definition = json.loads(ours.files()["tokenizer.json"])
    split = {"type": "Split", "pattern": {"Regex": "[a-z]"}, "behavior": "Isolated", "invert": False}
    definition["pre_tokenizer"]["pretokenizers"].insert(0, split)
    files = dict(ours.files()) | {"tokenizer.json": json.dumps(definition).encode()}
    with pytest.raises(UserError, match=r"cuts text by .*\[a-z\].*known are gpt-2"):
        gguf_with(HuggingFaceTokenizer.from_files(files, "here"), tmp_path)
    assert not (tmp_path / "model.gguf").exists()
    assert not (tmp_path / "model.gguf.tmp").exists()


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_llama_cpp_gives_the_ids_of_a_byte_level_vocabulary(pre, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    ours = byte_level(pre)
    llama = llama_cpp.Llama(str(gguf_with(ours, tmp_path).path), vocab_only=True, verbose=False)
    for text in SAMPLES:
        assert llama.tokenize(text.encode(), add_bos=False, special=False) == ours.encode(text), text
    marked = "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
    assert llama.tokenize(marked.encode(), add_bos=False, special=True) == ours.encode(marked, allow_special=True)


def test_llama_cpp_gives_the_ids_of_a_sentencepiece_model_of_others(tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    (tmp_path / "tokenizer.model").write_bytes(foreign_model())
    ours = read_folder_tokenizer(tmp_path)
    llama = llama_cpp.Llama(str(gguf_with(ours, tmp_path).path), vocab_only=True, verbose=False)
    for text in filter(None, SAMPLES):
        assert llama.tokenize(text.encode(), add_bos=False, special=False) == ours.encode(text), text
