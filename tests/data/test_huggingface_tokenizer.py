import json

import pytest
import tokenizers
from data_samples import standard_library_text
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from demiurgic_jax.data.huggingface_tokenizer import HuggingFaceTokenizer
from demiurgic_jax.data.tokenizer import load_tokenizer, save_tokenizer
from demiurgic_jax.errors import UserError

MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
FIM = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]
CONFIG = {"eos_token": {"content": "<|im_end|>"}, "bos_token": None, "pad_token": "<|endoftext|>"}
TRICKY = ["▁", " ", "    ", "\n", "\r\n", "\t", "\x00", "\ufeff", "é", "e\u0301", "😀", "Ġ", "Ċ", "1234", "def f(x):"]
ANY_TEXT = st.text() | st.lists(st.sampled_from(TRICKY + MARKERS + FIM) | st.text(max_size=5), max_size=12).map("".join)


def files_of(library_tokenizer: tokenizers.Tokenizer, config: dict) -> dict[str, bytes]:
    return {"tokenizer.json": library_tokenizer.to_str().encode(), "tokenizer_config.json": json.dumps(config).encode()}


@pytest.fixture(scope="module")
def library() -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer as code models have it: FIM markers that are not marked special,
    and a run of spaces that is an added token but plain text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=MARKERS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(standard_library_text(), trainer)
    tokenizer.add_tokens([tokenizers.AddedToken(name, special=False, normalized=False) for name in FIM])
    tokenizer.add_tokens([tokenizers.AddedToken(" " * 12, special=False, normalized=False)])
    return tokenizer


@pytest.fixture(scope="module")
def byte_level(library) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer.from_files(files_of(library, CONFIG), "the test")


@settings(max_examples=400)
@given(text=ANY_TEXT)
def test_any_utf8_text_survives_a_byte_level_vocabulary(byte_level, text):
    for allow_special in (False, True):
        ids = byte_level.encode(text, allow_special=allow_special)
        assert byte_level.decode(ids) == text
        assert b"".join(byte_level.token_bytes(i) for i in ids) == text.encode()


@settings(max_examples=200)
@given(text=ANY_TEXT)
def test_plain_text_never_makes_a_marker(byte_level, library, text):
    markers = {library.token_to_id(name) for name in MARKERS + FIM}
    assert markers.isdisjoint(byte_level.encode(text))


def test_ids_are_those_of_the_library(byte_level, library):
    text = standard_library_text()[0]
    assert byte_level.encode(text) == library.encode(text, add_special_tokens=False).ids
    chat = "<|im_start|>user\nx = 1<|im_end|><fim_prefix>"
    assert byte_level.encode(chat, allow_special=True) == library.encode(chat, add_special_tokens=False).ids


def test_added_runs_of_spaces_stay_tokens_of_plain_text(byte_level, library):
    assert library.token_to_id(" " * 12) in byte_level.encode("x" + " " * 12 + "y")


def test_special_ids_are_found_by_their_common_names(byte_level, library):
    special = byte_level.special
    assert special.eos == library.token_to_id("<|im_end|>")
    assert special.pad == library.token_to_id("<|endoftext|>")
    assert special.bos is None
    assert [special.fim_prefix, special.fim_suffix, special.fim_middle] == [library.token_to_id(name) for name in FIM]
    assert special.stops == (special.eos, special.pad)
    assert byte_level.decode([special.fim_prefix, special.eos], skip_special=True) == ""


def test_chatml_is_taken_where_its_markers_are_and_no_template_is_given(byte_level):
    assert "<|im_start|>" in byte_level.chat_template


@pytest.mark.parametrize(
    "extra",
    [
        {"chat_template": "{{ messages }}!"},
        {"chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": "{{ messages }}!"}]},
    ],
)
def test_chat_template_of_the_config_is_taken(library, extra):
    tokenizer = HuggingFaceTokenizer.from_files(files_of(library, CONFIG | extra), "the test")
    assert tokenizer.chat_template == "{{ messages }}!"


def test_chat_template_of_its_own_file_is_taken(library):
    files = files_of(library, CONFIG) | {"chat_template.jinja": b"from a file"}
    assert HuggingFaceTokenizer.from_files(files, "the test").chat_template == "from a file"


def test_saved_tokenizer_comes_back_the_same(byte_level, tmp_path):
    save_tokenizer(byte_level, tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.files() == byte_level.files()
    assert (again.fingerprint, again.special, again.vocab_size) == (
        byte_level.fingerprint,
        byte_level.special,
        byte_level.vocab_size,
    )


def test_another_vocabulary_has_another_fingerprint(byte_level, library):
    changed = json.loads(library.to_str())
    changed["model"]["merges"].pop()
    files = {"tokenizer.json": json.dumps(changed).encode(), "tokenizer_config.json": json.dumps(CONFIG).encode()}
    assert HuggingFaceTokenizer.from_files(files, "the test").fingerprint != byte_level.fingerprint


def test_ids_past_the_vocabulary_stand_for_nothing(byte_level):
    assert byte_level.token_bytes(byte_level.vocab_size + 7) == b""


def byte_fallback_library(
    *, first_space: bool, special: tuple[str, ...] = ("<unk>", "<s>", "</s>")
) -> tokenizers.Tokenizer:
    """A small vocabulary of the Llama 2 kind: ▁ for space, <0xXX> for what has no piece."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for piece in "▁abcdefghij":
        vocab[piece] = len(vocab)
    vocab |= {"▁a": len(vocab), "bc": len(vocab) + 1}
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=[("▁", "a"), ("b", "c")], byte_fallback=True, unk_token="<unk>")
    )
    space = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if first_space:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space])
        tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    else:
        tokenizer.normalizer = space
        tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(list(special))
    return tokenizer


@pytest.mark.parametrize("first_space", [False, True])
@pytest.mark.parametrize("text", ["", "a bc", " a", "  bc  ", "a\n\té 😀\x00", "</s> a <0x41>", "日本語"])
def test_byte_fallback_vocabularies_keep_text(first_space, text):
    library = byte_fallback_library(first_space=first_space)
    tokenizer = HuggingFaceTokenizer.from_files(
        files_of(library, {"eos_token": "</s>", "bos_token": "<s>"}), "the test"
    )
    ids = tokenizer.encode(text)
    assert tokenizer.special.eos not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes(library.token_to_id("<0xE9>")) == b"\xe9"
    assert tokenizer.token_bytes(library.token_to_id("▁a")) == b" a"


def test_a_plain_piece_that_looks_like_an_end_does_not_end_a_text():
    library = byte_fallback_library(first_space=False, special=("<unk>", "<s>"))
    assert library.token_to_id("</s>") is not None
    tokenizer = HuggingFaceTokenizer.from_files(files_of(library, {"eos_token": "<s>"}), "the test")
    assert tokenizer.special.stops == (library.token_to_id("<s>"),)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("tokenizer.json", b"{not json", "tokenizer.json is not JSON"),
        ("tokenizer.json", b"[]", "tokenizer.json is not a JSON object"),
        ("tokenizer.json", b"{}", "tokenizer.json is refused"),
        ("tokenizer_config.json", b"\x00", "tokenizer_config.json is not JSON"),
        (
            "tokenizer_config.json",
            b'{"eos_token": "<|nowhere|>"}',
            "eos_token .* '<|nowhere|>', which the vocabulary lacks",
        ),
    ],
)
def test_bad_files_are_refused_by_name(library, name, content, complaint):
    files = files_of(library, CONFIG) | {name: content}
    with pytest.raises(UserError, match=complaint.replace("|", r"\|")) as refusal:
        HuggingFaceTokenizer.from_files(files, "folder x")
    assert "folder x" in str(refusal.value)


def test_a_vocabulary_that_loses_bytes_is_refused():
    word_piece = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "</s>": 1}, unk_token="[UNK]"))
    word_piece.add_special_tokens(["</s>"])
    word_piece.decoder = decoders.WordPiece()
    with pytest.raises(UserError, match="does not keep every byte"):
        HuggingFaceTokenizer.from_files(files_of(word_piece, {"eos_token": "</s>"}), "folder x")


def test_half_a_surrogate_pair_is_refused(byte_level):
    with pytest.raises(UserError, match=r"U\+D83D"):
        byte_level.encode("\ud83d")
