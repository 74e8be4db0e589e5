"""The vocabulary of a GGUF file: read into a tokenizer of ours, and written from one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from demiurgic_jax.data.huggingface_tokenizer import HuggingFaceTokenizer
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.byte_level import CUTS, cut_of
from demiurgic_jax.interop.gguf_file import GgufFile
from demiurgic_jax.interop.sentencepiece_vocabulary import (
    Kind,
    Piece,
    Vocabulary,
    begins_with,
    read_model,
    tokenizer_definition,
)

# Fields of tokenizer_config.json and GGUF's names for them.
_NAMED = (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"), ("unk_token", "unknown"))
_FIM = (("fim_prefix", "fim_pre"), ("fim_suffix", "fim_suf"), ("fim_middle", "fim_mid"))


def read_tokenizer(file: GgufFile) -> Tokenizer:
    """The tokenizer inside the file, as a Hugging Face `tokenizers` one."""
    kind = file.require("tokenizer.ggml.model", str)
    if kind not in ("gpt2", "llama"):
        raise UserError(
            f"{file.path} has a {kind!r} vocabulary, which cannot be imported; known are byte-level BPE ('gpt2') and "
            "SentencePiece BPE ('llama')"
        )
    tokens = file.require("tokenizer.ggml.tokens", list)
    types = file.require("tokenizer.ggml.token_type", list)
    kept = [token for token, kind in zip(tokens, types, strict=False) if kind != Kind.UNUSED]
    if not all(isinstance(token, str) for token in tokens) or not (
        len(set(kept)) == len(kept) and len(tokens) == len(types)
    ):
        raise UserError(f"{file.path} has a vocabulary that contradicts itself: the file is damaged, fetch it again")
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name, key in _NAMED:
        if (index := file.get(f"tokenizer.ggml.{key}_token_id", -1)) >= 0:
            if index >= len(tokens):
                raise UserError(f"{file.path} names the {key} token {index} of {len(tokens)}: fetch the file again")
            config[name] = tokens[index]
    if template := file.get("tokenizer.chat_template", ""):
        config["chat_template"] = template
    bos = file.get("tokenizer.ggml.bos_token_id", -1)
    definition = _byte_level(file, tokens, types, bos) if kind == "gpt2" else _sentencepiece(file, tokens, types, bos)
    files = {
        "tokenizer.json": json.dumps(definition, ensure_ascii=False).encode(),
        "tokenizer_config.json": json.dumps(config, ensure_ascii=False, indent=2).encode(),
    }
    return HuggingFaceTokenizer.from_files(files, str(file.path))


def _sentencepiece(file: GgufFile, tokens: list[str], types: list[int], bos: int) -> dict[str, Any]:
    scores = file.require("tokenizer.ggml.scores", list)
    if len(scores) != len(tokens):
        raise UserError(f"{file.path} has {len(scores)} scores for {len(tokens)} tokens: fetch the file again")
    return tokenizer_definition(
        Vocabulary(
            list(map(Piece, tokens, scores, types)),
            space_prefix=file.get("tokenizer.ggml.add_space_prefix", True),
            add_bos=file.get("tokenizer.ggml.add_bos_token", True) and bos >= 0,
            bos=bos,
        )
    )


def _byte_level(file: GgufFile, tokens: list[str], types: list[int], bos: int) -> dict[str, Any]:
    """The content of tokenizer.json."""
    pre = file.get("tokenizer.ggml.pre", "default")
    if pre not in CUTS:
        raise UserError(f"{file.path} cuts text the {pre!r} way: known are {', '.join(CUTS)}")
    cut = CUTS[pre]
    add_bos = file.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe") and bos >= 0
    text = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, "special": kind == Kind.CONTROL, **text}
            for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind in (Kind.CONTROL, Kind.USER_DEFINED)
        ],
        "normalizer": cut.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(cut.steps)},
        "post_processor": begins_with(tokens[bos], bos) if add_bos else None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": cut.whole_pieces,
            "vocab": {
                token: index
                for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
                if kind != Kind.UNUSED
            },
            "merges": [str(merge).split(" ") for merge in file.require("tokenizer.ggml.merges", list)],
        },
    }


def write_tokenizer(writer: Any, tokenizer: Tokenizer, vocab_size: int) -> None:
    """Adds the vocabulary, its markers and the chat template to a gguf.GGUFWriter.

    Ids up to `vocab_size`, the rows of the embedding, that no piece has are named as unused. UserError for a
    tokenizer that llama.cpp would read otherwise.
    """
    files = tokenizer.files()
    if "tokenizer.json" in files:
        definition = json.loads(files["tokenizer.json"])
        add_bos = _adds_bos(definition.get("post_processor"))
        if definition["model"].get("byte_fallback"):
            _write_pieces(writer, _pieces(definition, tokenizer), _has_prefix(definition), vocab_size)
        else:
            _write_byte_level(writer, definition, tokenizer, vocab_size)
    else:
        # A tokenizer of our own: it puts nothing before a text.
        vocabulary, add_bos = read_model(files["tokenizer.model"], "the tokenizer"), False
        _write_pieces(writer, vocabulary.pieces, vocabulary.space_prefix, vocab_size)
    special = tokenizer.special
    for add, index in (
        (writer.add_bos_token_id, special.bos),
        (writer.add_eos_token_id, special.eos),
        (writer.add_pad_token_id, special.pad),
    ):
        if index is not None:
            add(index)
    writer.add_add_bos_token(add_bos)
    writer.add_add_eos_token(False)
    for ours, theirs in _FIM:
        if (index := getattr(special, ours)) is not None:
            writer.add_uint32(f"tokenizer.ggml.{theirs}_token_id", index)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
        writer.add_eot_token_id(_end_of_turn(tokenizer))


def _end_of_turn(tokenizer: Tokenizer) -> int:
    """The stop that the chat template spells out, else the end of a text."""
    stops = (stop for stop in tokenizer.special.stops if stop != tokenizer.special.eos)
    return next((stop for stop in stops if tokenizer.decode([stop]) in tokenizer.chat_template), tokenizer.special.eos)


def _write_pieces(writer: Any, pieces: Sequence[Piece], space_prefix: bool, vocab_size: int) -> None:
    padded = [*pieces, *(_unused(index) for index in range(len(pieces), vocab_size))]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece.text for piece in padded])
    writer.add_token_scores([piece.score for piece in padded])
    writer.add_token_types([int(piece.kind) for piece in padded])
    writer.add_add_space_prefix(space_prefix)


def _write_byte_level(writer: Any, definition: Mapping[str, Any], tokenizer: Tokenizer, vocab_size: int) -> None:
    pieces = _by_id(definition, tokenizer, vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut_of(definition, "this model"))
    writer.add_token_list([piece.text for piece in pieces])
    writer.add_token_types([int(piece.kind) for piece in pieces])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in _merges(definition)])


def _merges(definition: Mapping[str, Any]) -> list[Any]:
    return definition["model"]["merges"]


def _unused(index: int) -> Piece:
    return Piece(f"[PAD{index}]", -1e4, Kind.UNUSED)


def _by_id(definition: Mapping[str, Any], tokenizer: Tokenizer, size: int) -> list[Piece]:
    pieces = [_unused(index) for index in range(max(size, tokenizer.vocab_size))]
    for text, index in definition["model"]["vocab"].items():
        pieces[index] = Piece(text, 0.0, Kind.NORMAL)
    for token in definition.get("added_tokens", []):
        # Several models leave their markers unmarked: our tokenizer knows them.
        reserved = tokenizer.decode([token["id"]], skip_special=True) == ""
        pieces[token["id"]] = Piece(token["content"], 0.0, Kind.CONTROL if reserved else Kind.USER_DEFINED)
    return pieces


def _pieces(definition: Mapping[str, Any], tokenizer: Tokenizer) -> list[Piece]:
    """A vocabulary with byte fallback as SentencePiece has it; a piece's score is its place among the merges."""
    made = {
        "".join(merge) if isinstance(merge, list) else merge.replace(" ", ""): None for merge in _merges(definition)
    }
    scores = {text: -float(rank) for rank, text in enumerate(made)}
    unknown = definition["model"].get("unk_token")
    spaces = definition.get("normalizer") is None
    pieces = []
    for text, _, kind in _by_id(definition, tokenizer, 0):
        if text == unknown:
            kind = Kind.UNKNOWN
        elif len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            kind = Kind.BYTE
        written = text.replace(" ", "▁") if spaces and kind == Kind.NORMAL else text
        pieces.append(Piece(written, scores.get(text, -1e4 if kind == Kind.UNUSED else -float(len(made))), kind))
    return pieces


def _has_prefix(definition: Mapping[str, Any]) -> bool:
    """Whether the normalizer puts a space before every text."""
    return '"type": "Prepend"' in json.dumps(definition.get("normalizer"))


def _adds_bos(component: Mapping[str, Any] | None) -> bool:
    if component is None:
        return False
    if component["type"] == "Sequence":
        return any(map(_adds_bos, component["processors"]))
    return component["type"] == "TemplateProcessing" and "SpecialToken" in component["single"][0]
