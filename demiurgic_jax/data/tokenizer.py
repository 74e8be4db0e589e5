"""Text to token ids and back: the protocol, and how a tokenizer is found again from its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from demiurgic_jax.errors import UserError

# What a tokenizer may be read from; a folder of weights holds much else.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the reserved pieces; None where the tokenizer has no such piece."""

    bos: int | None
    eos: int
    pad: int
    fim_prefix: int | None = None
    fim_middle: int | None = None
    fim_suffix: int | None = None
    # Every id that ends an answer (eos, end of a chat turn, end of text).
    stops: tuple[int, ...] = ()


class Tokenizer(Protocol):
    """What the rest of the house needs of a tokenizer."""

    special: SpecialTokens
    chat_template: str  # a Jinja program over `messages` and `add_generation_prompt`

    @property
    def reserved(self) -> Mapping[str, int]:
        """Every piece that is a marker rather than text, with its id."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of ids, reserved ones included."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over everything that changes encode or decode."""
        ...

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Ids of `text`, nothing added. Reserved pieces written in the text stay text unless
        `allow_special`, which chat templates need."""
        ...

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of `ids`; incomplete UTF-8 becomes U+FFFD. decode(encode(x)) == x."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one id stands for: exact also when a character spans several ids."""
        ...

    def files(self) -> Mapping[str, bytes]:
        """File name to content: what a checkpoint or shard folder keeps of it."""
        ...


def tokenizer_from_files(files: Mapping[str, bytes], where: str) -> Tokenizer:
    """The tokenizer whose `files()` these are. `where` names them in errors."""
    if "tokenizer.json" in files:
        from demiurgic_jax.data.huggingface_tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.from_files(files, where)
    if "tokenizer.model" in files:
        from demiurgic_jax.data.sentencepiece_tokenizer import SentencePieceTokenizer

        return SentencePieceTokenizer.from_files(files, where)
    raise UserError(
        f"{where} holds no tokenizer: expected a file tokenizer.json (Hugging Face) or tokenizer.model (SentencePiece)"
    )


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Reads a tokenizer from `folder`."""
    folder = Path(folder)
    files = {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).is_file()}
    return tokenizer_from_files(files, str(folder))


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Writes `tokenizer.files()` into `folder`, which is made."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
