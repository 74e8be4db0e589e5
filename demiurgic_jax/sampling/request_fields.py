"""Every field of every request body: what it may be, what it means, and what it is when it is left out.

One table per route, which both checks bodies (`read_body`) and is published at /openapi.json.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demiurgic_jax.sampling.api_error import ApiError
from demiurgic_jax.sampling.json_schema import Schema, plain, problem
from demiurgic_jax.sampling.prompt import MAX_LOGPROBS, MAX_STOP_TOKENS, MAX_STOPS

MAX_CHOICES = 64
MAX_INPUT_FILES = 1024

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
IDS: Schema = {"type": "array", "items": COUNT, "minItems": 1}
FRACTION: Schema = {"type": "number", "minimum": 0, "maximum": 1}
PENALTY: Schema = {"type": "number", "minimum": -2, "maximum": 2}
STOP: Schema = {
    "title": f"a string or a list of at most {MAX_STOPS} strings, none of them empty",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": MAX_STOPS},
    ],
}
TEXT_OR_IDS: Schema = {
    "title": "a string, a list of strings, a list of token ids, or a list of such lists",
    "anyOf": [
        STRING,
        {"type": "array", "items": STRING, "minItems": 1, "maxItems": MAX_CHOICES},
        IDS,
        {"type": "array", "items": IDS, "minItems": 1, "maxItems": MAX_CHOICES},
    ],
}
MESSAGE: Schema = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant"]},
        "content": {
            "title": "a string or a list of text parts",
            "anyOf": [
                STRING,
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["type", "text"],
                        "properties": {"type": {"enum": ["text"]}, "text": STRING},
                    },
                },
            ],
        },
    },
}
EXTRA_FILE: Schema = {
    "type": "object",
    "required": ["text"],
    "properties": {"filename": STRING, "text": STRING},
}


@dataclass(frozen=True)
class Field:
    """One field. Null means that it is left out, unless it is `required`. Of an `unsupported` one only the values of
    its schema are understood, which do nothing. An `ignored` one may be anything: it changes no text."""

    schema: Schema
    what: str
    default: Any = None
    required: bool = False
    unsupported: bool = False
    ignored: bool = False


def _unsupported(*neutral: Any) -> Field:
    return Field({"enum": list(neutral)}, "Not supported: only the value that does nothing.", unsupported=True)


def _ignored(what: str) -> Field:
    return Field({}, what, ignored=True)


_LABEL = _ignored("A label for the sender's own books.")

_SAMPLING: dict[str, Field] = {
    "temperature": Field({"type": "number", "minimum": 0, "maximum": 100}, "0 is greedy.", 1.0),
    "top_p": Field(
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "Draw from the likeliest tokens of this mass.", 1.0
    ),
    "top_k": Field(COUNT, "Draw from this many likeliest tokens; 0 is all.", 0),
    "min_p": Field(FRACTION, "Leave out what is less likely than this share of the likeliest.", 0.0),
    "frequency_penalty": Field(PENALTY, "Taken off a logit for every time its token was generated.", 0.0),
    "presence_penalty": Field(PENALTY, "Taken off a logit once its token was generated.", 0.0),
    "seed": Field(INTEGER, "Makes drawing repeatable."),
    "stop": Field(STOP, "Texts that end the answer, and are no part of it.", ()),
    "stream": Field(BOOLEAN, "Whether the answer comes as server-sent events.", False),
}

_OPENAI: dict[str, Field] = {
    "model": Field(STRING, "The served model (see /v1/models); the default is that one."),
    **_SAMPLING,
    "max_tokens": Field(COUNT, "Most tokens of an answer."),
    "n": Field({"type": "integer", "minimum": 1, "maximum": MAX_CHOICES}, "Answers per prompt.", 1),
    "repetition_penalty": Field(
        {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
        "Divides the logits of tokens that prompt or answer have (Keskar et al. 2019).",
        1.0,
    ),
    "stop_token_ids": Field({"type": "array", "items": COUNT, "maxItems": MAX_STOP_TOKENS}, "Ids likewise.", ()),
    "max_seconds": Field({"type": "number", "minimum": 0}, "The answer ends when it has run this long."),
    "truncate": Field(BOOLEAN, "Cut a prompt that is too long instead of refusing it.", False),
    "stream_options": Field(
        {"type": "object", "properties": {"include_usage": BOOLEAN, "include_obfuscation": BOOLEAN}},
        "include_usage adds a last event that counts tokens.",
        {},
    ),
    "logit_bias": _unsupported({}),
    **{name: _LABEL for name in ("user", "metadata", "store", "service_tier", "prompt_cache_key", "safety_identifier")},
}

COMPLETION: Mapping[str, Field] = {
    **_OPENAI,
    "prompt": Field(TEXT_OR_IDS, "What to continue.", required=True),
    "suffix": Field(STRING, "What follows the gap to fill (fill-in-the-middle)."),
    "max_tokens": Field(COUNT, "Most tokens of an answer.", 16),
    "logprobs": Field({**COUNT, "maximum": MAX_LOGPROBS}, "Log-probabilities, with this many alternatives."),
    "echo": Field(BOOLEAN, "Whether the prompt stands in front of the answer.", False),
    "best_of": _unsupported(1),
}

CHAT: Mapping[str, Field] = {
    **_OPENAI,
    "messages": Field({"type": "array", "items": MESSAGE, "minItems": 1}, "The conversation.", required=True),
    "max_completion_tokens": Field(COUNT, "Most tokens of an answer; the default is what the context holds."),
    "logprobs": Field(BOOLEAN, "Whether tokens come with their log-probabilities.", False),
    "top_logprobs": Field({**COUNT, "maximum": MAX_LOGPROBS}, "Alternatives per token; goes with logprobs.", 0),
    "response_format": _unsupported({"type": "text"}),
    "tools": _unsupported([]),
    "tool_choice": _unsupported("none", "auto"),
    "parallel_tool_calls": _unsupported(True, False),
}

# The names and defaults of llama.cpp's server.
INFILL: Mapping[str, Field] = {
    "input_prefix": Field(STRING, "What stands before the line of the cursor.", ""),
    "input_suffix": Field(STRING, "What stands behind the cursor.", ""),
    "input_extra": Field(
        {"type": "array", "items": EXTRA_FILE, "maxItems": MAX_INPUT_FILES}, "Other files, the nearest last.", ()
    ),
    "prompt": Field(STRING, "The cursor's own line up to the cursor: the prefix ends with it.", ""),
    "n_predict": Field({"type": "integer", "minimum": -1}, "Most tokens of the answer; -1 is what fits.", -1),
    "n_indent": Field(COUNT, "The answer ends before a later line that is indented by fewer characters.", 0),
    "t_max_predict_ms": Field(COUNT, "After this time the answer ends with the line; 0 is never.", 0),
    "samplers": Field(
        {"type": "array", "items": STRING},
        "Which of top_k, top_p, min_p and temperature apply; infill takes the likeliest token. Default: those four.",
    ),
    **_SAMPLING,
    "temperature": Field(_SAMPLING["temperature"].schema, "0 is greedy.", 0.8),
    "top_k": Field({"type": "integer"}, "Draw from this many likeliest tokens; 0 or less is all.", 40),
    "top_p": Field(_SAMPLING["top_p"].schema, _SAMPLING["top_p"].what, 0.95),
    "min_p": Field(FRACTION, _SAMPLING["min_p"].what, 0.05),
    "seed": Field(INTEGER, "Makes drawing repeatable; -1 is any.", -1),
    "repeat_penalty": Field(_OPENAI["repetition_penalty"].schema, "As repetition_penalty elsewhere.", 1.0),
    "response_fields": Field(
        {"type": "array", "items": STRING}, "Only these fields of the answer; timings/prompt_n is one inside another."
    ),
    "return_tokens": Field(BOOLEAN, "Whether the answer has its token ids.", False),
    "model": Field(STRING, "The served model."),
    "cache_prompt": _ignored("Prompts are always cached."),
    "id_slot": _ignored("Slots are given out by the server."),
    "t_max_prompt_ms": _ignored("The prompt is always read to its end."),
    "n_keep": _ignored("Prompts are cut as described in docs/server.md."),
    "repeat_last_n": _ignored("Penalties look at the whole text."),
    "timings_per_token": _ignored("Timings come with the end."),
    "n_probs": _unsupported(0),
    "grammar": _unsupported(""),
    "json_schema": _unsupported({}),
    "logit_bias": _unsupported([], {}),
    "ignore_eos": _unsupported(False),
    "mirostat": _unsupported(0),
    "typical_p": _unsupported(1, 1.0),
    "xtc_probability": _unsupported(0, 0.0),
    "dry_multiplier": _unsupported(0, 0.0),
    "dynatemp_range": _unsupported(0, 0.0),
}

TOKENIZE: Mapping[str, Field] = {
    "content": Field(STRING, "The text.", required=True),
    "add_special": Field(BOOLEAN, "Whether bos stands in front.", False),
    "parse_special": Field(BOOLEAN, "Whether reserved pieces in the text become their ids.", True),
    "with_pieces": Field(
        BOOLEAN, "Whether each id comes with its text, or its bytes where it is half a character.", False
    ),
    "model": Field(STRING, "The served model."),
}

DETOKENIZE: Mapping[str, Field] = {
    "tokens": Field({"type": "array", "items": COUNT}, "Ids.", required=True),
    "model": Field(STRING, "The served model."),
}


def read_body(body: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """The value of every field but the ignored ones. Raises ApiError naming the field that is wrong."""
    for name in body:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            raise wrong(name, f"is unknown: did you mean {near[0]!r}?" if near else "is unknown: leave it out")
    return {name: _read(name, body.get(name), field) for name, field in fields.items() if not field.ignored}


def _read(name: str, value: Any, field: Field) -> Any:
    if value is None:
        if field.required:
            raise wrong(name, "is missing: give " + field.schema.get("title", "it"))
        return field.default
    if (what := problem(value, field.schema)) is not None:
        raise wrong(name, "is not supported by this server: leave it out" if field.unsupported else what)
    return plain(value, field.schema)


def wrong(name: str, what: str) -> ApiError:
    """The refusal of a field."""
    return ApiError(400, f"{name} {what}", param=name)
