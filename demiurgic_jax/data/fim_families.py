"""Fill-in-the-middle as each family of models was taught it: a row of FAMILIES is a family.

The row is chosen by the reserved pieces of the tokenizer. Sources: the papers and model cards of StarCoder (Li et al.
2023), StarCoder2 (Lozhkov et al. 2024), Qwen2.5-Coder (Hui et al. 2024), CodeGemma (2024), Code Llama (Rozière et al.
2023), DeepSeek-Coder (Guo et al. 2024) and Mistral's tokenizer library for Codestral.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

# What a project and the file being edited are called where nobody says; the formats want a name there.
PROJECT, CURRENT_FILE = "project", "current"
# A character that no piece of a SentencePiece vocabulary joins with what follows.
GUARD = "☺"


class FimFile(NamedTuple):
    """Another file of the project that the model may look at."""

    name: str
    text: str


@dataclass(frozen=True)
class FimFamily:
    """One way to ask. `prefix`, `suffix` and `middle` are the pieces that open each part; where `suffix_first`, the
    suffix stands before the prefix and the middle follows it with no piece between. Other files stand in front, each
    behind a `separator` and its name (the first behind the `repository` piece and the project's name); where the
    family has no separator, at the beginning of the prefix, each behind `heading`."""

    name: str
    prefix: str
    suffix: str
    middle: str
    suffix_first: bool = False
    # Whether the document begins with bos.
    bos: bool = False
    # Whether the tokenizer would put a space before the suffix, which is the middle of a line.
    guards_suffix: bool = False
    separator: str | None = None
    repository: str | None = None
    # Whether the name of the current file stands before the prefix's piece (else it is left out).
    names_current: bool = False
    heading: str = "# {name}\n"
    # Pieces that end a middle beside those that end any text.
    stops: tuple[str, ...] = ()


_QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_STARCODER = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")

# A family whose pieces are all there is taken, so the plain ones come after those that have more.
FAMILIES = (
    FimFamily(
        "Qwen2.5-Coder",
        *_QWEN,
        separator="<|file_sep|>",
        repository="<|repo_name|>",
        names_current=True,
        stops=("<|fim_pad|>", *_QWEN),
    ),
    FimFamily("CodeGemma", *_QWEN, bos=True, separator="<|file_separator|>", names_current=True, stops=_QWEN),
    FimFamily("Demiurgic", *_QWEN, stops=_QWEN),
    FimFamily("StarCoder2", *_STARCODER, separator="<file_sep>", repository="<repo_name>", stops=_STARCODER),
    FimFamily("StarCoder", *_STARCODER, stops=("<fim_pad>", "<filename>", "<reponame>", *_STARCODER)),
    FimFamily("SantaCoder", "<fim-prefix>", "<fim-suffix>", "<fim-middle>", stops=("<fim-pad>",)),
    FimFamily("Code Llama", "▁<PRE>", "▁<SUF>", "▁<MID>", bos=True, guards_suffix=True, stops=("▁<EOT>",)),
    FimFamily("Code Llama", "<PRE>", "<SUF>", "<MID>", bos=True, guards_suffix=True, stops=("<EOT>",)),
    FimFamily(
        "Codestral",
        "[PREFIX]",
        "[SUFFIX]",
        "[MIDDLE]",
        suffix_first=True,
        bos=True,
        guards_suffix=True,
        heading="+++++ {name}\n",
    ),
    FimFamily("DeepSeek-Coder", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", bos=True, heading="#{name}\n"),
)
FIM_NAMES = tuple(dict.fromkeys((family.prefix, family.suffix, family.middle) for family in FAMILIES))


class FimFormat:
    """A family's way to ask, in the ids of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, mend: str) -> None:
        """Raises UserError, which ends with `mend`, when the tokenizer has no FIM pieces."""
        special, reserved = tokenizer.special, tokenizer.reserved
        if special.fim_prefix is None or special.fim_suffix is None or special.fim_middle is None:
            raise UserError(f"this model's tokenizer has no fill-in-the-middle tokens; {mend}")
        self.prefix, self.suffix, self.middle = special.fim_prefix, special.fim_suffix, special.fim_middle
        self.family = next((family for family in FAMILIES if _is_of(tokenizer, family)), FAMILIES[2])
        self.separator = reserved.get(self.family.separator or "")
        self.repository = reserved.get(self.family.repository or "")
        names = [*self.family.stops, self.family.separator, self.family.repository]
        self.stops = tuple(reserved[name] for name in names if name is not None and name in reserved)
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Ids of a prefix, or of another file."""
        return self._tokenizer.encode(text)

    def encode_inside(self, text: str) -> list[int]:
        """Ids of a suffix or a middle, which go on where other text ends."""
        if not self.family.guards_suffix:
            return self._tokenizer.encode(text)
        guard, ids = self._tokenizer.encode(GUARD), self._tokenizer.encode(GUARD + text)
        return ids[len(guard) :] if ids[: len(guard)] == guard else self._tokenizer.encode(text)

    def arrange(self, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
        """What asks for the middle; a task to learn from has the middle behind it."""
        if self.family.suffix_first:
            return [self.suffix, *suffix, self.prefix, *prefix]
        return [self.prefix, *prefix, self.suffix, *suffix, self.middle]

    def file_block(self, file: FimFile) -> list[int]:
        """Another file as it stands in the prompt."""
        text = file.text if file.text.endswith("\n") else file.text + "\n"
        if self.separator is not None:
            return [self.separator, *self.encode(f"{file.name}\n{text}")]
        return self.encode(self.family.heading.format(name=file.name) + text)

    def prompt(self, prefix: Sequence[int], suffix: Sequence[int], blocks: Sequence[Sequence[int]] = ()) -> list[int]:
        """The whole prompt; `blocks` are the other files'."""
        special = self._tokenizer.special
        start = [special.bos] if self.family.bos and special.bos is not None else []
        files = [token for block in blocks for token in block]
        if not files or self.separator is None:
            return start + self.arrange([*files, *prefix], suffix)
        project = [] if self.repository is None else [self.repository, *self.encode(f"{PROJECT}\n")]
        current = self.encode(f"{CURRENT_FILE}\n") if self.family.names_current else []
        return [*start, *project, *files, self.separator, *current, *self.arrange(prefix, suffix)]


def _is_of(tokenizer: Tokenizer, family: FimFamily) -> bool:
    special, reserved = tokenizer.special, tokenizer.reserved
    ids = (special.fim_prefix, special.fim_suffix, special.fim_middle)
    needed = [name for name in (family.separator, family.repository) if name is not None]
    return ids == tuple(map(reserved.get, (family.prefix, family.suffix, family.middle))) and all(
        name in reserved for name in needed
    )
