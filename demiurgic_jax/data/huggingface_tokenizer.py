"""Tokenizers of imported models: Hugging Face `tokenizers` (tokenizer.json), made exact to the byte."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import tokenizers

from demiurgic_jax.data.special_tokens import CHATML, find_special_tokens, require_utf8
from demiurgic_jax.errors import UserError


class HuggingFaceTokenizer:
    """Implements `Tokenizer` over tokenizer.json and tokenizer_config.json.

    Byte-level vocabularies (GPT-2's alphabet) are exact for every text; those with byte fallback are so
    up to the normalizer that the model was trained with.
    """

    def __init__(self, definition: dict[str, Any], config: dict[str, Any], where: str) -> None:
        """`definition` is tokenizer.json parsed, `config` tokenizer_config.json. Raises UserError when the
        `tokenizers` library refuses the definition, or its pieces cannot be turned back into bytes."""
        self._definition = definition
        self._config = config
        self._full = _build(definition, where)
        self.reserved: Mapping[str, int] = {
            t["content"]: t["id"] for t in definition.get("added_tokens", []) if _is_reserved(t)
        }
        self._reserved_ids = frozenset(self.reserved.values())
        self._plain = _build(_with_reserved_as_special(definition), where)
        self._plain.encode_special_tokens = True
        self.chat_template = _chat_template(config, self.reserved)
        vocab = self._full.get_vocab(with_added_tokens=True)
        named = {field: _token_text(config.get(f"{field}_token")) for field in ("bos", "eos", "pad")}
        # Only markers end a text: </s> may also be a plain piece, the end of an HTML tag.
        markers = {**{name: vocab[name] for name in named.values() if name in vocab}, **self.reserved}
        self.special = find_special_tokens(markers, **named, where=where)
        self._bytes = _vocabulary_bytes(definition, vocab, where)
        self._drops_first_space = _drops_first_space(definition)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], where: str) -> "HuggingFaceTokenizer":
        """From tokenizer.json and, where present, tokenizer_config.json and chat_template.jinja."""
        definition = _parse(files["tokenizer.json"], f"{where}: tokenizer.json")
        config = _parse(files.get("tokenizer_config.json", b"{}"), f"{where}: tokenizer_config.json")
        if "chat_template.jinja" in files:
            config["chat_template"] = files["chat_template.jinja"].decode()
        return cls(definition, config, where)

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self._definition, sort_keys=True).encode())
        digest.update(repr(self.special).encode())
        return digest.hexdigest()

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Ids of `text`. Raises UserError for text that UTF-8 cannot hold."""
        require_utf8(text)
        tokenizer = self._full if allow_special else self._plain
        return tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        kept = (i for i in ids if i not in self._reserved_ids) if skip_special else ids
        text = b"".join(self.token_bytes(i) for i in kept).decode(errors="replace")
        return text[1:] if self._drops_first_space and text.startswith(" ") else text

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one id; b"" for an id that no piece has (holes, the padding of an embedding)."""
        return self._bytes[token_id] if 0 <= token_id < len(self._bytes) else b""

    def files(self) -> Mapping[str, bytes]:
        definition = json.dumps(self._definition, ensure_ascii=False, sort_keys=True)
        config = json.dumps(self._config, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        return {"tokenizer.json": definition.encode(), "tokenizer_config.json": config.encode()}


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}); restore that file") from error
    if not isinstance(parsed, dict):
        raise UserError(f"{where} is not a JSON object; restore that file")
    return parsed


def _build(definition: dict[str, Any], where: str) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(definition))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{where}: tokenizer.json is refused ({error}); restore that file") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _is_reserved(added_token: Mapping[str, Any]) -> bool:
    """Whether an added token is a marker rather than text (some models add runs of spaces as tokens).

    Several code models leave their FIM and chat markers unmarked as special; their brackets give them away.
    """
    content = added_token["content"]
    return bool(added_token.get("special")) or (content.lstrip("▁").startswith("<") and content.endswith(">"))


def _with_reserved_as_special(definition: dict[str, Any]) -> dict[str, Any]:
    added = [{**token, "special": _is_reserved(token)} for token in definition.get("added_tokens", [])]
    return {**definition, "added_tokens": added}


def _token_text(value: Any) -> str | None:
    """tokenizer_config.json writes a token as a string or as an object with its content."""
    return value["content"] if isinstance(value, dict) else value


def _chat_template(config: Mapping[str, Any], reserved: Mapping[str, int]) -> str:
    """The default template of the config; ChatML where there is none but its markers; else nothing."""
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    if template is None:
        return CHATML if {"<|im_start|>", "<|im_end|>"} <= set(reserved) else ""
    return template


def _steps(component: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The parts of a normalizer, pre-tokenizer or decoder, sequences flattened."""
    if component is None:
        return
    if component["type"] != "Sequence":
        yield component
        return
    for children in (value for value in component.values() if isinstance(value, list)):
        for child in children:
            yield from _steps(child)


def _drops_first_space(definition: Mapping[str, Any]) -> bool:
    """Whether decoding undoes a space that encoding puts before the text."""
    for step in _steps(definition.get("decoder")):
        if step["type"] == "Strip" and step.get("content") == " " and step.get("start"):
            return True
        if step["type"] == "Metaspace":
            return step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True)
    return False


def _vocabulary_bytes(definition: Mapping[str, Any], vocab: Mapping[str, int], where: str) -> list[bytes]:
    """The bytes of each id, b"" where there is none."""
    decoder_steps = list(_steps(definition.get("decoder")))
    kinds = {step["type"] for step in decoder_steps}
    added = {token["content"] for token in definition.get("added_tokens", [])}
    byte_of = {character: byte for byte, character in enumerate(_byte_alphabet())}
    if not kinds & {"ByteLevel", "ByteFallback", "Metaspace"}:
        raise UserError(
            f"{where}: tokenizer.json decodes by {sorted(kinds) or 'nothing'}, which does not keep every byte; "
            "use a byte-level or byte-fallback vocabulary"
        )

    def piece_bytes(piece: str) -> bytes:
        if piece in added:
            return piece.encode()
        if "ByteLevel" in kinds:
            return bytes(byte_of[c] for c in piece) if all(c in byte_of for c in piece) else piece.encode()
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("▁", " ").encode()

    table = [b""] * (max(vocab.values()) + 1)
    for piece, token_id in vocab.items():
        table[token_id] = piece_bytes(piece)
    return table


def _byte_alphabet() -> list[str]:
    """The character by which byte-level vocabularies write each byte 0..255.

    Printable Latin-1 characters stand for themselves; the rest take U+0100, U+0101, … in order.
    """
    alphabet, spare = [], 0x100
    for byte in range(256):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF:
            alphabet.append(chr(byte))
        else:
            alphabet.append(chr(spare))
            spare += 1
    return alphabet
