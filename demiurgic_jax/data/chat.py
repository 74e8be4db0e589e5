"""Conversations as tokens: the tokenizer's own chat template, and which tokens of it are learnt from."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox
import numpy as np

from demiurgic_jax.data.completer import Message
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

# Unicode sets these aside for a program's own use; they are in no text meant for interchange.
NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))


class _TemplateRefusalError(Exception):
    """What a template's raise_exception(message) raises."""


def _raise_exception(message: str) -> NoReturn:
    raise _TemplateRefusalError(message)


def _tojson(value: Any, indent: int | None = None) -> str:
    """Jinja's own tojson escapes for HTML, which a prompt must not be."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


@lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def render_chat(tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
    """The conversation as the text that the model was trained on.

    Raises UserError when the tokenizer has no chat template, or the template is broken or refuses the
    messages (roles out of turn, for example).
    """
    if not tokenizer.chat_template:
        raise UserError(
            "this model's tokenizer has no chat template (it is a base model); ask for a raw completion, "
            "or set chat_template in tokenizer_config.json"
        )
    special = tokenizer.special
    try:
        return _compiled(tokenizer.chat_template).render(
            messages=[{"role": message.role, "content": message.content} for message in messages],
            add_generation_prompt=add_generation_prompt,
            bos_token=tokenizer.decode([special.bos]) if special.bos is not None else "",
            eos_token=tokenizer.decode([special.eos]),
        )
    except _TemplateRefusalError as error:
        raise UserError(f"the chat template refuses these messages: {error}; change the messages") from error
    except jinja2.TemplateError as error:
        raise UserError(
            f"the chat template of tokenizer_config.json fails on these messages: {error}; mend the template"
        ) from error


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
    """Prompt ids of the conversation.

    The template's markers become reserved ids; a marker that a message's content spells out stays text,
    so no content can forge a turn.
    """
    if all(tokenizer.encode(m.content, allow_special=True) == tokenizer.encode(m.content) for m in messages):
        text = render_chat(tokenizer, messages, add_generation_prompt=add_generation_prompt)
        return tokenizer.encode(text, allow_special=True)
    # Every marker opens with one of these: cut the content behind them, and encode what is between the cuts.
    cut = next(c for c in NONCHARACTERS if not any(c in m.content for m in messages))
    guarded = [
        Message(m.role, m.content.replace("<", "<" + cut).replace("[", "[" + cut).replace("▁", "▁" + cut))
        for m in messages
    ]
    text = render_chat(tokenizer, guarded, add_generation_prompt=add_generation_prompt)
    return [i for part in text.split(cut) for i in tokenizer.encode(part, allow_special=True)]


def end_of_turn(tokenizer: Tokenizer) -> int:
    """The id with which the chat template closes an answer (eos where it closes with none)."""
    answer = "answer"
    text = render_chat(
        tokenizer, [Message("user", "question"), Message("assistant", answer)], add_generation_prompt=False
    )
    tail = tokenizer.encode(text[text.rindex(answer) + len(answer) :], allow_special=True)
    return next((i for i in tail if i in tokenizer.special.stops), tokenizer.special.eos)


def encode_example(tokenizer: Tokenizer, messages: Sequence[Message], completion: str) -> tuple[np.ndarray, np.ndarray]:
    """One training document: the prompt, the answer, and the end of its turn.

    Returns tokens int32 [n] and loss_mask uint8 [n]: 0 over the prompt, 1 over the answer and its end.
    """
    prompt = encode_chat(tokenizer, messages)
    answer = [*tokenizer.encode(completion), end_of_turn(tokenizer)]
    tokens = np.array(prompt + answer, np.int32)
    loss_mask = np.repeat(np.array([0, 1], np.uint8), [len(prompt), len(answer)])
    return tokens, loss_mask
