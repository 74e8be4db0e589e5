"""The tokenizer of a Hugging Face folder: tokenizer.json, or a tokenizer.model of SentencePiece."""

import json
from pathlib import Path

from demiurgic_jax.data.huggingface_tokenizer import HuggingFaceTokenizer
from demiurgic_jax.data.tokenizer import TOKENIZER_FILES, Tokenizer, tokenizer_from_files
from demiurgic_jax.interop.sentencepiece_vocabulary import Kind, read_model, tokenizer_definition


def read_folder_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in `folder`. UserError when there is none, or it is damaged or of a kind that is not known."""
    files = {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).is_file()}
    if "tokenizer.json" in files or "tokenizer.model" not in files:
        return tokenizer_from_files(files, str(folder))
    vocabulary = read_model(files["tokenizer.model"], str(folder))
    if not vocabulary.space_prefix and "tokenizer_config.json" in files:
        # As our own are.
        return tokenizer_from_files(files, str(folder))
    converted = {**files, "tokenizer.json": json.dumps(tokenizer_definition(vocabulary)).encode()}
    if "tokenizer_config.json" not in files:
        markers = [piece.text for piece in vocabulary.pieces if piece.kind == Kind.CONTROL]
        named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        config = {field: text for field, text in named.items() if text in markers}
        converted["tokenizer_config.json"] = json.dumps(config).encode()
    return HuggingFaceTokenizer.from_files(converted, str(folder))
