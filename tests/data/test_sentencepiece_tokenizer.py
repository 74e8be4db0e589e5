import io

import pytest
import sentencepiece
from data_samples import VOCAB_SIZE, standard_library_text
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.sentencepiece_tokenizer import CONTROL_PIECES, SentencePieceTokenizer, train_sentencepiece
from demiurgic_jax.data.tokenizer import load_tokenizer, save_tokenizer
from demiurgic_jax.errors import UserError

TRICKY = ["▁", "▁▁", "▅", " ", "    ", "\n", "\r\n", "\t", "\x00", "\ufeff", "\ufffd", "é", "e\u0301", "😀", "<0x41>"]
TRICKY += ["<unk>", "<s>", "1234567", "def f(x):", *CONTROL_PIECES, "<|endoftext|>", "<|pad|>", "<|bos|>"]
ANY_TEXT = st.text() | st.lists(st.sampled_from(TRICKY) | st.text(max_size=5), max_size=12).map("".join)


@settings(max_examples=400)
@given(text=ANY_TEXT)
def test_any_utf8_text_survives_encode_and_decode(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(i) for i in ids) == text.encode()
    special = tokenizer.encode(text, allow_special=True)
    assert tokenizer.decode(special) == text


@settings(max_examples=200)
@given(text=ANY_TEXT)
def test_plain_text_never_makes_a_reserved_id(tokenizer, text):
    reserved = {tokenizer.encode(piece, allow_special=True)[0] for piece in CONTROL_PIECES}
    reserved |= {tokenizer.special.bos, tokenizer.special.eos, tokenizer.special.pad}
    assert reserved.isdisjoint(tokenizer.encode(text))


def test_markers_become_reserved_ids_where_they_are_allowed(tokenizer):
    text = "<|im_start|>user\nhi<|im_end|>"
    ids = tokenizer.encode(text, allow_special=True)
    assert ids[0] == tokenizer.encode("<|im_start|>", allow_special=True)[0]
    assert ids[-1] in tokenizer.special.stops
    assert tokenizer.special.eos in tokenizer.special.stops
    assert tokenizer.decode(ids, skip_special=True) == "user\nhi"


def test_digits_are_split(tokenizer):
    assert [tokenizer.decode([i]) for i in tokenizer.encode("x=2048")][-4:] == ["2", "0", "4", "8"]


def test_half_a_character_decodes_to_the_replacement_character(tokenizer):
    ids = tokenizer.encode("😀")
    assert len(ids) > 1
    assert "\ufffd" in tokenizer.decode(ids[:-1])


def test_it_compresses_the_code_it_was_trained_on(tokenizer):
    text = standard_library_text()[0]
    assert len(text) / len(tokenizer.encode(text)) > 2


def test_training_twice_gives_the_same_bytes(tokenizer):
    again = train_sentencepiece(standard_library_text(), VOCAB_SIZE)
    assert again.files() == tokenizer.files()
    assert again.fingerprint == tokenizer.fingerprint
    other = train_sentencepiece(standard_library_text()[:1], VOCAB_SIZE)
    assert other.fingerprint != tokenizer.fingerprint


def test_saved_tokenizer_comes_back_the_same(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.files() == tokenizer.files()
    assert (again.fingerprint, again.special) == (tokenizer.fingerprint, tokenizer.special)
    assert again.chat_template == tokenizer.chat_template


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_text_with_sentencepiece_own_marks_is_trained_on():
    # SentencePiece would drop a whole sentence for one ▅, and take ▁ for a space.
    text = "zyxwvut ▅ zyxwvut▁zyxwvut " * 30
    trained = train_sentencepiece([text], 370)
    assert any("zyx" in trained.decode([i]) for i in trained.encode("zyxwvut"))
    assert trained.decode(trained.encode(text)) == text


def test_progress_counts_every_character():
    seen = []
    texts = ["abc " * 50, "", "def " * 30]
    train_sentencepiece(texts, 365, progress=seen.append)
    assert seen == [len(text) for text in texts]


def test_a_vocabulary_larger_than_the_text_can_fill_is_refused_with_the_largest_that_works():
    text = ["hello world " * 20]
    with pytest.raises(UserError, match=r"vocab_size 9000 .* lower it to (\d+)") as refusal:
        train_sentencepiece(text, 9000)
    largest = int(str(refusal.value).split("lower it to ")[1].split()[0])
    assert train_sentencepiece(text, largest).vocab_size == largest


def test_a_vocabulary_below_the_reserved_pieces_is_refused_with_the_least_that_works():
    text = ["hello world " * 20]
    with pytest.raises(UserError, match="vocab_size 100 is too small") as refusal:
        train_sentencepiece(text, 100)
    least = int(str(refusal.value).split("raise it to ")[1].split()[0])
    assert train_sentencepiece(text, least).vocab_size == least


def test_no_text_is_refused():
    with pytest.raises(UserError, match="no text to train"):
        train_sentencepiece(["", ""], 500)


def test_half_a_surrogate_pair_is_refused_by_its_place(tokenizer):
    with pytest.raises(UserError, match=r"U\+D83D\) at character 3"):
        tokenizer.encode("abc\ud83d")


def test_a_damaged_model_is_refused(tokenizer):
    files = dict(tokenizer.files())
    files["tokenizer.model"] = files["tokenizer.model"][:1000]
    with pytest.raises(UserError, match=r"some folder: tokenizer.model .* damaged"):
        SentencePieceTokenizer.from_files(files, "some folder")


def test_a_model_that_alters_text_is_refused(tokenizer):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("".join(standard_library_text()).splitlines()),
        model_writer=model,
        vocab_size=500,
        model_type="bpe",
        byte_fallback=True,
        control_symbols=["<|endoftext|>"],
        pad_id=3,
        minloglevel=2,
    )
    files = {"tokenizer.model": model.getvalue(), "tokenizer_config.json": b'{"eos_token": "</s>"}'}
    with pytest.raises(UserError, match="alters text"):
        SentencePieceTokenizer.from_files(files, "some folder")
