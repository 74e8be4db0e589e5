"""Fill-in-the-middle prompts (Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle")."""

from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError


def fim_prompt(tokenizer: Tokenizer, prefix: str, suffix: str) -> list[int]:
    """Ids that ask for what stands between `prefix` and `suffix`, in prefix-suffix-middle order.

    Raises UserError when the tokenizer has no FIM pieces.
    """
    special = tokenizer.special
    if special.fim_prefix is None or special.fim_suffix is None or special.fim_middle is None:
        raise UserError(
            "this model's tokenizer has no fill-in-the-middle tokens; "
            "leave the suffix out or use a model trained with them"
        )
    return [
        special.fim_prefix,
        *tokenizer.encode(prefix),
        special.fim_suffix,
        *tokenizer.encode(suffix),
        special.fim_middle,
    ]
