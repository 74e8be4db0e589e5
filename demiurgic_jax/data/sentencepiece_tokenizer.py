"""The tokenizer that we train ourselves: SentencePiece BPE in which every text survives to the byte.

SentencePiece writes a space as U+2581 (▁) inside its pieces and so cannot tell the two apart; a ▁ of
the text is therefore encoded by its three byte pieces and never reaches SentencePiece.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import sentencepiece

from demiurgic_jax.data.special_tokens import CHATML, find_special_tokens, require_utf8
from demiurgic_jax.errors import UserError

SPACE_MARK = "▁"
PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|endoftext|>"
CONTROL_PIECES = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|im_start|>", "<|im_end|>")
# Always in the vocabulary, however rare in the training text.
REQUIRED_CHARACTERS = "\n\t" + "".join(map(chr, range(0x21, 0x7F)))
# Trained on in slices: SentencePiece skips sentences beyond a length, and drops any with its own marks.
SLICE_CHARACTERS = 8192
SENTENCEPIECE_MARKS = re.compile("[▁▅]")
EXACTNESS_PROBE = " a  b\n\t\r\n1234 é \U0001f600\x00▁ "


class SentencePieceTokenizer:
    """Implements `Tokenizer` over a SentencePiece model that `train_sentencepiece` made."""

    def __init__(self, model: bytes, config: Mapping[str, Any], where: str) -> None:
        """`model` is the serialized SentencePiece model, `config` holds bos_token, eos_token, pad_token
        and chat_template. Raises UserError when the model is corrupt or does not keep text exactly."""
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise UserError(
                f"{where}: tokenizer.model is not a SentencePiece model or is damaged; restore or retrain it"
            ) from error
        self._model = model
        self._config = dict(config)
        self.chat_template: str = config.get("chat_template") or ""
        self._bytes = [self._piece_bytes(i) for i in range(self.vocab_size)]
        self.reserved: Mapping[str, int] = {
            self._processor.id_to_piece(i): i for i in range(self.vocab_size) if self._processor.is_control(i)
        }
        self._reserved_pattern = re.compile("(" + "|".join(map(re.escape, self.reserved)) + ")")
        self._reserved_ids = frozenset(self.reserved.values())
        self._space_mark_ids = [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_MARK.encode()]
        self.special = find_special_tokens(
            self.reserved,
            bos=config.get("bos_token"),
            eos=config.get("eos_token"),
            pad=config.get("pad_token"),
            where=where,
        )
        if self.decode(self.encode(EXACTNESS_PROBE)) != EXACTNESS_PROBE:
            raise UserError(
                f"{where}: tokenizer.model alters text (it was not trained here); put its tokenizer.json beside it"
            )

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], where: str) -> "SentencePieceTokenizer":
        """The tokenizer whose `files()` these are."""
        if "tokenizer_config.json" not in files:
            raise UserError(f"{where} has tokenizer.model but no tokenizer_config.json beside it; restore that file")
        try:
            config = json.loads(files["tokenizer_config.json"])
        except ValueError as error:
            raise UserError(f"{where}: tokenizer_config.json is not JSON ({error}); restore that file") from error
        return cls(files["tokenizer.model"], config, where)

    def _piece_bytes(self, token_id: int) -> bytes:
        piece = self._processor.id_to_piece(token_id)
        if self._processor.is_byte(token_id):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(SPACE_MARK, " ").encode()

    @property
    def vocab_size(self) -> int:
        return self._processor.vocab_size()

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._model)
        digest.update(repr(self.special).encode())
        return digest.hexdigest()

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Ids of `text`. Raises UserError for text that UTF-8 cannot hold."""
        require_utf8(text)
        if not allow_special:
            return self._encode_plain(text)
        ids: list[int] = []
        for part in self._reserved_pattern.split(text):
            ids += [self.reserved[part]] if part in self.reserved else self._encode_plain(part)
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        first, *others = text.split(SPACE_MARK)
        ids = self._processor.encode(first)
        for part in others:
            ids += self._space_mark_ids
            ids += self._processor.encode(part)
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        kept = (i for i in ids if i not in self._reserved_ids) if skip_special else ids
        return b"".join(self.token_bytes(i) for i in kept).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one id; b"" for an id past the vocabulary (the padding of an embedding)."""
        return self._bytes[token_id] if 0 <= token_id < len(self._bytes) else b""

    def files(self) -> Mapping[str, bytes]:
        config = json.dumps(self._config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        return {"tokenizer.model": self._model, "tokenizer_config.json": config.encode()}


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, *, progress: Callable[[int], None] | None = None
) -> SentencePieceTokenizer:
    """Trains a BPE tokenizer of exactly `vocab_size` ids on `texts`; the same texts give the same bytes.

    `progress` is called with the number of characters of each text as it is taken in. Raises UserError
    when there is no text, or when `vocab_size` is below the reserved pieces or beyond what the texts can fill.
    """
    slices = list(_slices(texts, progress))
    if not slices:
        raise UserError("there is no text to train a tokenizer on; give at least one that is not empty")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(slices),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            required_chars=REQUIRED_CHARACTERS,
            max_sentence_length=4 * SLICE_CHARACTERS,
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            pad_piece=PAD,
            bos_piece=BOS,
            eos_piece=EOS,
            control_symbols=list(CONTROL_PIECES),
            # The model file records it, so a fixed number keeps the bytes the same on every machine.
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _vocab_size_error(error, vocab_size) from error
    config = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "chat_template": CHATML}
    return SentencePieceTokenizer(model.getvalue(), config, "the trained tokenizer")


def _slices(texts: Iterable[str], progress: Callable[[int], None] | None) -> Iterator[str]:
    for text in texts:
        require_utf8(text)
        for part in SENTENCEPIECE_MARKS.split(text):
            for start in range(0, len(part), SLICE_CHARACTERS):
                yield part[start : start + SLICE_CHARACTERS]
        if progress is not None:
            progress(len(text))


def _vocab_size_error(error: RuntimeError, vocab_size: int) -> Exception:
    """The user's mistake behind SentencePiece's error, or the error itself."""
    message = str(error)
    if most := re.search(r"too high.*<= (\d+)", message):
        return UserError(
            f"vocab_size {vocab_size} is more than these texts can fill; lower it to {most[1]} or give more text"
        )
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"vocab_size {vocab_size} is too small for the bytes, letters and reserved pieces; "
            f"raise it to {least[1]} at least"
        )
    return error
