"""The names by which vocabularies call their reserved pieces, and the chat template of our own."""

from collections.abc import Mapping

from demiurgic_jax.data.fim_families import FIM_NAMES
from demiurgic_jax.data.tokenizer import SpecialTokens
from demiurgic_jax.errors import UserError

# Pieces that end an answer: the end of a chat turn, of a message, or of the text.
STOP_NAMES = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|EOT|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
)

CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def find_special_tokens(
    ids: Mapping[str, int], *, bos: str | None, eos: str | None, pad: str | None, where: str
) -> SpecialTokens:
    """Looks the reserved pieces up in `ids` (piece → id).

    Without `eos` the first known stop of the vocabulary serves; without `pad`, eos does. Raises
    UserError when `where` names a piece that the vocabulary lacks, or has nothing that ends a text.
    """
    for field, name in (("bos_token", bos), ("eos_token", eos), ("pad_token", pad)):
        if name is not None and name not in ids:
            raise UserError(
                f"{where}: {field} of tokenizer_config.json is {name!r}, which the vocabulary lacks; name a piece of it"
            )
    stops = [ids[name] for name in STOP_NAMES if name in ids]
    if eos is None and not stops:
        raise UserError(
            f"{where}: no piece of the vocabulary is known to end a text; "
            "set eos_token in tokenizer_config.json to the one that does"
        )
    eos_id = ids[eos] if eos is not None else stops[0]
    fim: tuple[int | None, ...] = next(
        (tuple(ids[name] for name in names) for names in FIM_NAMES if all(name in ids for name in names)),
        (None, None, None),
    )
    return SpecialTokens(
        bos=ids[bos] if bos is not None else None,
        eos=eos_id,
        pad=ids[pad] if pad is not None else eos_id,
        fim_prefix=fim[0],
        fim_suffix=fim[1],
        fim_middle=fim[2],
        stops=tuple(dict.fromkeys([eos_id, *stops])),
    )


def require_utf8(text: str) -> None:
    """Raises UserError when `text` cannot be written as UTF-8 (it holds half of a surrogate pair)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text has half of a surrogate pair (U+{ord(text[error.start]):04X}) at character {error.start}, "
            "which UTF-8 cannot hold; remove it or read the source with errors='replace'"
        ) from error
