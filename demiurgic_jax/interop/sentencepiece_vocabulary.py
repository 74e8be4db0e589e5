"""SentencePiece BPE vocabularies, as their pieces: out of a tokenizer.model, and as a tokenizer.json.

`tokenizers` has no merges by score, which is how SentencePiece joins pieces; a list of merges in the order of the
scores of what they make joins the same ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from demiurgic_jax.data.sentencepiece_tokenizer import SPACE_MARK
from demiurgic_jax.errors import UserError

_BPE = 2  # TrainerSpec.ModelType


class Kind(IntEnum):
    """As SentencePiece numbers them, and GGUF after it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class Vocabulary:
    """`space_prefix`: a space is put before every text. `exact`: text is kept as it is, also a ▁ in it, which
    SentencePiece takes for a space otherwise."""

    pieces: Sequence[Piece]
    space_prefix: bool
    exact: bool = False
    add_bos: bool = False
    bos: int | None = None


def read_model(content: bytes, where: str) -> Vocabulary:
    """The vocabulary of a tokenizer.model. UserError when it is none, or cuts text in another way than BPE."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    model: Any = getattr(sentencepiece_model_pb2, "ModelProto")()  # noqa: B009 (made at import, unseen by mypy)
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise UserError(f"{where}: tokenizer.model is not a SentencePiece model or is damaged; restore it") from error
    if model.trainer_spec.model_type != _BPE:
        raise UserError(f"{where}: tokenizer.model is no BPE model: put its tokenizer.json beside it")
    if model.normalizer_spec.precompiled_charsmap or model.normalizer_spec.remove_extra_whitespaces:
        raise UserError(
            f"{where}: tokenizer.model normalises text ({model.normalizer_spec.name}): put its tokenizer.json beside it"
        )
    pieces = [Piece(piece.piece, piece.score, piece.type) for piece in model.pieces]
    bos = model.trainer_spec.bos_id
    prefix = model.normalizer_spec.add_dummy_prefix
    return Vocabulary(pieces, prefix, add_bos=bos >= 0, bos=bos if bos >= 0 else None)


def tokenizer_definition(vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of tokenizer.json."""
    spelt = [_spelt(piece, vocabulary.exact) for piece in vocabulary.pieces]
    kinds = [piece.kind for piece in vocabulary.pieces]
    vocab = {text: index for index, (text, kind) in enumerate(zip(spelt, kinds, strict=True)) if kind != Kind.UNUSED}
    unknown = next((text for text, kind in zip(spelt, kinds, strict=True) if kind == Kind.UNKNOWN), None)
    fields = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": index, "content": text, "special": kind != Kind.USER_DEFINED, **fields}
        for index, (text, kind) in enumerate(zip(spelt, kinds, strict=True))
        if kind in (Kind.CONTROL, Kind.USER_DEFINED) or (kind == Kind.UNKNOWN and not vocabulary.exact)
    ]
    to_mark = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}
    from_mark = {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "}
    prefix = [{"type": "Prepend", "prepend": SPACE_MARK}] if vocabulary.space_prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if vocabulary.space_prefix else []
    decoders = [{"type": "ByteFallback"}, {"type": "Fuse"}, *strip]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None if vocabulary.exact else {"type": "Sequence", "normalizers": [*prefix, to_mark]},
        "pre_tokenizer": None,
        "post_processor": begins_with(spelt[vocabulary.bos], vocabulary.bos)
        if vocabulary.add_bos and vocabulary.bos is not None
        else None,
        "decoder": {"type": "Sequence", "decoders": decoders if vocabulary.exact else [from_mark, *decoders]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(merge) for merge in _merges(vocabulary.pieces, spelt)],
        },
    }


def begins_with(bos: str, bos_id: int) -> dict[str, Any]:
    """The post-processor that puts the piece `bos` before a text."""
    marker, first, second = ({"SpecialToken": {"id": bos, "type_id": 0}}, *({"Sequence": s} for s in _SEQUENCES))
    return {
        "type": "TemplateProcessing",
        "single": [marker, first],
        "pair": [marker, first, {"SpecialToken": {"id": bos, "type_id": 1}}, second],
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }


_SEQUENCES = ({"id": "A", "type_id": 0}, {"id": "B", "type_id": 1})


def _spelt(piece: Piece, exact: bool) -> str:
    if piece.kind == Kind.USER_DEFINED or (exact and piece.kind == Kind.NORMAL):
        # Looked for in the text itself.
        return piece.text.replace(SPACE_MARK, " ")
    return piece.text


def _merges(pieces: Sequence[Piece], spelt: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs that join to a piece, those of the highest score first."""
    ids = {text: index for index, text in enumerate(spelt) if pieces[index].kind == Kind.NORMAL}
    found = []
    for text, index in ids.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                found.append((-pieces[index].score, ids[left], ids[right], left, right))
    for *_, left, right in sorted(found):
        yield left, right
