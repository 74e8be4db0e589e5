"""Byte-level BPE vocabularies: how GGUF's name for a way to cut text is written in a tokenizer.json."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from demiurgic_jax.errors import UserError


class Cut(NamedTuple):
    """How text is cut before its bytes are joined: the steps of a tokenizer.json's pre-tokenizer.

    `whole_pieces`: a cut that is a piece of the vocabulary is taken whole, whatever the merges make of it.
    """

    steps: tuple[Mapping[str, Any], ...]
    normalizer: Mapping[str, Any] | None = None
    whole_pieces: bool = False


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _bytes(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_DIGITS = {"type": "Digits", "individual_digits": True}
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# `tokenizer.ggml.pre` → how the same is written in a tokenizer.json. The first of several that cut alike is written.
CUTS: Mapping[str, Cut] = {
    "gpt-2": Cut((_bytes(True),)),
    "default": Cut((_bytes(True),)),
    "smollm": Cut((_DIGITS, _bytes(True))),
    "starcoder": Cut((_DIGITS, _bytes(True))),
    "refact": Cut((_DIGITS, _bytes(True))),
    "codeshell": Cut((_DIGITS, _bytes(True))),
    "llama-bpe": Cut((_split(_LLAMA3), _bytes(False)), whole_pieces=True),
    "qwen2": Cut((_split(_QWEN2), _bytes(False)), normalizer={"type": "NFC"}),
}


def cut_of(definition: Mapping[str, Any], where: str) -> str:
    """GGUF's name for how a tokenizer.json cuts text. UserError where llama.cpp knows no such way."""
    steps = tuple(map(_essence, _steps(definition.get("pre_tokenizer"))))
    for name, cut in CUTS.items():
        if steps == tuple(map(_essence, cut.steps)):
            return name
    written = " + ".join(map(str, steps)) or "nothing"
    raise UserError(
        f"{where}: its tokenizer.json cuts text by {written}, for which GGUF has no name that is known here: known are "
        f"{', '.join(CUTS)}"
    )


def _steps(component: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    if component is None:
        return
    if component["type"] == "Sequence":
        for step in component["pretokenizers"]:
            yield from _steps(step)
    else:
        yield component


def _essence(step: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a step decides where text is cut."""
    kind = step["type"]
    if kind == "Split":
        return kind, str(step["pattern"]), step["behavior"], bool(step.get("invert"))
    if kind == "Digits":
        return kind, bool(step.get("individual_digits"))
    if kind == "ByteLevel":
        return kind, step.get("use_regex", True), step.get("add_prefix_space", True)
    return (kind,)
