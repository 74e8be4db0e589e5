"""Fill in the middle: prompts, and code turned into such tasks while it is read.

Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle".
"""

from dataclasses import dataclass

import numpy as np

from demiurgic_jax.data.fim_families import FimFormat
from demiurgic_jax.data.order import hashed
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

# The reserved pieces, and the end of the middle.
ADDED_TOKENS = 4


def fim_prompt(tokenizer: Tokenizer, prefix: str, suffix: str) -> list[int]:
    """Ids that ask for what stands between `prefix` and `suffix`, in the way that the tokenizer's family was taught.

    Raises UserError when the tokenizer has no FIM pieces.
    """
    form = FimFormat(tokenizer, "leave the suffix out or use a model trained with them")
    return form.prompt(form.encode(prefix), form.encode_inside(suffix))


@dataclass(frozen=True)
class FimConfig:
    """A share `rate` of the code is learnt as fill-in-the-middle tasks, `spm_rate` of those in the order
    suffix-prefix-middle, the others as the model's family is asked (data/fim_families.py)."""

    rate: float = 0.0
    spm_rate: float = 0.5

    def __post_init__(self) -> None:
        for name in ("rate", "spm_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"fim.{name}={getattr(self, name)} is outside 0..1")


class FimTransform:
    """Turns pieces of code into tasks: whether, how and where to cut is a function of (seed, epoch, piece)."""

    def __init__(self, config: FimConfig, tokenizer: Tokenizer, seed: int) -> None:
        """Raises UserError when the tokenizer has no FIM pieces."""
        self._config = config
        self._tokenizer = tokenizer
        self._seed = seed
        self._format = FimFormat(tokenizer, "set fim.rate to 0 or use a tokenizer that has them")

    def __call__(self, tokens: np.ndarray, epoch: int, document: int, start: int) -> np.ndarray | None:
        """The piece `tokens` (integer [n]), which begins at token `start` of `document`, as a task: int32 [at most n].

        The text is cut between any two characters, also inside of a token, and the three parts are encoded each by
        itself, as a prompt's are. Where they and the reserved pieces take more than n tokens, the suffix loses its
        end, then the prefix its beginning. None: the piece stays as it is, because the lot says so or it is too short.
        """
        draws = hashed(self._seed, epoch, document, start, np.arange(4))
        chosen, suffix_first = draws[:2] < np.array([self._config.rate, self._config.spm_rate]) * 2.0**64
        if not chosen:
            return None
        # Documents are cut between tokens, hence sometimes inside of a character: half of it is no text.
        text = self._tokenizer.decode(tokens.tolist()).strip("\ufffd")
        first, last = sorted((draws[2:] % np.uint64(len(text) + 1)).tolist())
        prefix = self._format.encode(text[:first])
        middle, suffix = map(self._format.encode_inside, (text[first:last], text[last:]))
        middle.append(self._tokenizer.special.eos)
        excess = len(prefix) + len(middle) + len(suffix) + ADDED_TOKENS - 1 - len(tokens)
        if excess > 0:
            kept = max(len(suffix) - excess, 0)
            excess -= len(suffix) - kept
            suffix = suffix[:kept]
        if excess > len(prefix):
            return None
        prefix = prefix[max(excess, 0) :]
        if suffix_first and not self._format.family.suffix_first:
            return np.array(_spm(self._format, prefix, suffix, middle), np.int32)
        return np.array(self._format.arrange(prefix, suffix) + middle, np.int32)

    def learnt(self, targets: np.ndarray) -> np.ndarray:
        """Which targets of a task are learnt, bool [n]: all but the reserved pieces, for where text was cut cannot
        be foretold from the text."""
        return ~np.isin(targets, (self._format.prefix, self._format.suffix, self._format.middle))


def _spm(form: FimFormat, prefix: list[int], suffix: list[int], middle: list[int]) -> list[int]:
    """The paper's second variant, which shares the beginning of PSM's format."""
    return [form.prefix, form.suffix, *suffix, form.middle, *prefix, *middle]
