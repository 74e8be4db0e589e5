"""Each family is asked in the words of its own paper or model card."""

import json

import numpy as np
import pytest
import tokenizers

from demiurgic_jax.data.fim import FimConfig, FimTransform, fim_prompt
from demiurgic_jax.data.fim_families import FimFile, FimFormat
from demiurgic_jax.data.huggingface_tokenizer import HuggingFaceTokenizer

QWEN = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"]
STARCODER = ["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>"]
DEEPSEEK = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"]
CODE_LLAMA = ["<s>", "</s>", "▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]
CODESTRAL = ["<s>", "</s>", "[PREFIX]", "[SUFFIX]", "[MIDDLE]"]
FILES = [FimFile("a.py", "x = 1\n"), FimFile("b.py", "y = 2")]


def byte_level(reserved: list[str], bos: str | None = None) -> HuggingFaceTokenizer:
    """A vocabulary of the 256 bytes and some reserved pieces."""
    model = tokenizers.models.BPE(
        vocab={c: i for i, c in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}, merges=[]
    )
    library = tokenizers.Tokenizer(model)
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.add_special_tokens(reserved)
    return HuggingFaceTokenizer(json.loads(library.to_str()), {"bos_token": bos}, "the test")


def metaspace(reserved: list[str], bos: str) -> HuggingFaceTokenizer:
    """As SentencePiece writes it: a space stands before every text."""
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(0x21, 0x7F)), "☺", "\n"]
    model = tokenizers.models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True, fuse_unk=False
    )
    library = tokenizers.Tokenizer(model)
    library.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    library.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    library.add_special_tokens(reserved)
    return HuggingFaceTokenizer(json.loads(library.to_str()), {"bos_token": bos, "eos_token": "</s>"}, "the test")


def written(tokenizer: HuggingFaceTokenizer, ids: list[int]) -> str:
    """The prompt as text, every space that stands there shown."""
    return b"".join(map(tokenizer.token_bytes, ids)).decode()


@pytest.mark.parametrize(
    ("tokenizer", "family", "alone", "among_files"),
    [
        (
            byte_level([*QWEN, "<|file_sep|>", "<|repo_name|>"]),
            "Qwen2.5-Coder",
            "<|fim_prefix|>if a:\n<|fim_suffix|>\nend<|fim_middle|>",
            "<|repo_name|>project\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b.py\ny = 2\n<|file_sep|>current\n"
            "<|fim_prefix|>if a:\n<|fim_suffix|>\nend<|fim_middle|>",
        ),
        (
            byte_level([*QWEN[:4], "<bos>", "<|file_separator|>"], "<bos>"),
            "CodeGemma",
            "<bos><|fim_prefix|>if a:\n<|fim_suffix|>\nend<|fim_middle|>",
            "<bos><|file_separator|>a.py\nx = 1\n<|file_separator|>b.py\ny = 2\n<|file_separator|>current\n"
            "<|fim_prefix|>if a:\n<|fim_suffix|>\nend<|fim_middle|>",
        ),
        (
            byte_level(QWEN[:4]),
            "Demiurgic",
            "<|fim_prefix|>if a:\n<|fim_suffix|>\nend<|fim_middle|>",
            "<|fim_prefix|># a.py\nx = 1\n# b.py\ny = 2\nif a:\n<|fim_suffix|>\nend<|fim_middle|>",
        ),
        (
            byte_level([*STARCODER, "<file_sep>", "<repo_name>"]),
            "StarCoder2",
            "<fim_prefix>if a:\n<fim_suffix>\nend<fim_middle>",
            "<repo_name>project\n<file_sep>a.py\nx = 1\n<file_sep>b.py\ny = 2\n<file_sep>"
            "<fim_prefix>if a:\n<fim_suffix>\nend<fim_middle>",
        ),
        (
            byte_level([*STARCODER, "<filename>", "<reponame>"]),
            "StarCoder",
            "<fim_prefix>if a:\n<fim_suffix>\nend<fim_middle>",
            "<fim_prefix># a.py\nx = 1\n# b.py\ny = 2\nif a:\n<fim_suffix>\nend<fim_middle>",
        ),
        (
            byte_level(DEEPSEEK, DEEPSEEK[0]),
            "DeepSeek-Coder",
            "<｜begin▁of▁sentence｜><｜fim▁begin｜>if a:\n<｜fim▁hole｜>\nend<｜fim▁end｜>",
            "<｜begin▁of▁sentence｜><｜fim▁begin｜>#a.py\nx = 1\n#b.py\ny = 2\nif a:\n<｜fim▁hole｜>\nend<｜fim▁end｜>",
        ),
        (
            metaspace(CODE_LLAMA, "<s>"),
            "Code Llama",
            "<s>▁<PRE> if a:\n▁<SUF>\nend▁<MID>",
            "<s>▁<PRE> # a.py\nx = 1\n # b.py\ny = 2\n if a:\n▁<SUF>\nend▁<MID>",
        ),
        (
            metaspace(CODESTRAL, "<s>"),
            "Codestral",
            "<s>[SUFFIX]\nend[PREFIX] if a:\n",
            "<s>[SUFFIX]\nend[PREFIX] +++++ a.py\nx = 1\n +++++ b.py\ny = 2\n if a:\n",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "\n" not in value else "",
)
def test_a_family_is_asked_as_it_was_taught(tokenizer: HuggingFaceTokenizer, family: str, alone: str, among_files: str):
    form = FimFormat(tokenizer, "")
    assert form.family.name == family
    assert written(tokenizer, fim_prompt(tokenizer, "if a:\n", "\nend")) == alone
    blocks = [form.file_block(file) for file in FILES]
    whole = form.prompt(form.encode("if a:\n"), form.encode_inside("\nend"), blocks)
    assert written(tokenizer, whole) == among_files


def test_what_begins_another_file_ends_the_middle():
    tokenizer = byte_level([*STARCODER, "<file_sep>", "<repo_name>"])
    stops = {written(tokenizer, [i]) for i in FimFormat(tokenizer, "").stops}
    assert stops == {"<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<file_sep>", "<repo_name>"}
    llama = metaspace(CODE_LLAMA, "<s>")
    assert [written(llama, [i]) for i in FimFormat(llama, "").stops] == ["▁<EOT>"]


@pytest.mark.parametrize("spm_rate", [0.0, 1.0])
def test_a_student_of_a_family_without_a_middle_piece_learns_what_it_will_be_asked(spm_rate: float):
    tokenizer = metaspace(CODESTRAL, "<s>")
    text = "def f(x):\n    return x\n" * 3
    tokens = tokenizer.encode(text)
    task = FimTransform(FimConfig(1.0, spm_rate), tokenizer, 1)(np.array(tokens + [3] * 20), 0, 0, 0)
    assert task is not None
    ids = task.tolist()
    special = tokenizer.special
    assert ids[0] == special.fim_suffix
    assert special.fim_prefix in ids
    assert special.fim_middle not in ids
    assert ids[-1] == special.eos
