"""POST /infill as llama.cpp's server has it, for its editor plugins: the body, where the middle ends, the answer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.data.fim_families import FimFile, FimFormat
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.api_error import ApiError
from demiurgic_jax.sampling.fim_budget import fit_fim
from demiurgic_jax.sampling.openai_requests import stop_strings
from demiurgic_jax.sampling.request_fields import INFILL, read_body, wrong

SAMPLERS = ("top_k", "top_p", "min_p", "temperature")
# Understood, and without effect here: the penalties are options of their own, the others are refused as such.
OTHER_SAMPLERS = ("penalties", "dry", "top_n_sigma", "typ_p", "typical_p", "xtc")
UNNAMED_FILE = "snippet"


@dataclass(frozen=True)
class InfillRequest:
    """What one body asks for."""

    request: CompletionRequest
    values: Mapping[str, Any]
    truncated: bool


def infill_request(body: Mapping[str, Any], tokenizer: Tokenizer, max_context: int) -> InfillRequest:
    """Reads the body of /infill and makes its prompt fit. Raises ApiError naming the field that is wrong."""
    values = read_body(body, INFILL)
    limit = values["n_predict"]
    reserved = min(limit if limit >= 0 else max_context // 4, max_context // 2)
    files = [FimFile(extra.get("filename") or UNNAMED_FILE, extra["text"]) for extra in values["input_extra"]]
    try:
        form = FimFormat(tokenizer, "use a model trained with them")
        prefix = values["input_prefix"] + values["prompt"]
        fitted = fit_fim(form, prefix, values["input_suffix"], files, max_context - max(reserved, 1))
    except UserError as error:
        raise ApiError(400, str(error)) from error
    request = CompletionRequest(
        prompt_tokens=tuple(fitted.tokens),
        # A request for no tokens is how editors have a prompt read ahead of time.
        max_tokens=max_context if limit < 0 else max(limit, 1),
        stop=stop_strings(values["stop"]),
        stop_tokens=form.stops,
        seed=values["seed"] if values["seed"] is not None and values["seed"] >= 0 else None,
        repetition_penalty=float(values["repeat_penalty"]),
        frequency_penalty=float(values["frequency_penalty"]),
        presence_penalty=float(values["presence_penalty"]),
        **_sampling(values),
    )
    return InfillRequest(request, values, fitted.truncated)


def _sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    """The samplers that the body names; one that it leaves out does nothing."""
    named = SAMPLERS if values["samplers"] is None else values["samplers"]
    for name in named:
        if name not in (*SAMPLERS, *OTHER_SAMPLERS, "infill"):
            raise wrong("samplers", f"has {name!r}: known are {', '.join((*SAMPLERS, 'infill'))}")
    if "infill" in named:
        return {"temperature": 0.0}
    return {
        "top_k": max(values["top_k"], 0) if "top_k" in named else 0,
        "top_p": float(values["top_p"]) if "top_p" in named else 1.0,
        "min_p": float(values["min_p"]) if "min_p" in named else 0.0,
        "temperature": float(values["temperature"]) if "temperature" in named else 1.0,
    }


class InfillEnding:
    """Finds where an editor wants the middle to end. `feed` it text as it comes; `ended` once it has enough.

    The middle ends before the first later line that is indented by fewer than `indent` characters (blank lines are
    none), and, once `seconds` have passed since the first text, at the end of a line. 0 switches either off.
    """

    def __init__(self, indent: int, seconds: float) -> None:
        self.ended = False
        self._indent = indent
        self._seconds = seconds
        self._began: float | None = None
        # From a line's end up to the first character of the next line: who knows whether it is wanted.
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that is certain now."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        if self.ended:
            return ""
        return self._cut(self._held + text, late=0 < self._seconds < now - self._began)

    def finish(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return "" if self.ended else held

    def _cut(self, text: str, *, late: bool) -> str:
        self._held = ""
        start = 0
        while (line_end := text.find("\n", start)) >= 0:
            if late:
                self.ended = True
                return text[:line_end]
            if not self._indent:
                return text
            body = text[line_end:].lstrip()
            if not body:
                self._held = text[line_end:]
                return text[:line_end]
            next_start = len(text) - len(body)
            if next_start - text.rfind("\n", 0, next_start) - 1 < self._indent:
                self.ended = True
                return text[:line_end]
            start = next_start
        return text


class InfillAnswer:
    """The JSON of an answer, whole or in chunks."""

    def __init__(self, asked: InfillRequest, tokenizer: Tokenizer, model: str) -> None:
        self._asked = asked
        self._tokenizer = tokenizer
        self._model = model
        self._started = time.monotonic()
        self._first: float | None = None
        self._parts: list[str] = []

    def took(self, text: str) -> None:
        """More of the middle."""
        self._first = time.monotonic() if self._first is None else self._first
        self._parts.append(text)

    def chunk(self, text: str) -> dict[str, Any]:
        """A part of a streamed answer."""
        return {"index": 0, "content": text, "tokens": [], "stop": False, "id_slot": 0}

    def whole(self, completion: Completion, *, cut: bool) -> dict[str, Any]:
        """The answer, or the last event of a streamed one, whose content is empty. `cut`: InfillEnding ended it."""
        request, values = self._asked.request, self._asked.values
        content = "" if values["n_predict"] == 0 else "".join(self._parts)
        limited = cut or completion.finish_reason == "length"
        answer = {
            "index": 0,
            "content": "" if values["stream"] else content,
            "tokens": [],
            "id_slot": 0,
            "stop": True,
            "model": self._model,
            "tokens_predicted": completion.completion_tokens,
            "tokens_evaluated": completion.prompt_tokens,
            "generation_settings": {
                "n_predict": values["n_predict"],
                "n_indent": values["n_indent"],
                "t_max_predict_ms": values["t_max_predict_ms"],
                "temperature": request.temperature,
                "top_k": request.top_k,
                "top_p": request.top_p,
                "min_p": request.min_p,
                "repeat_penalty": request.repetition_penalty,
                "frequency_penalty": request.frequency_penalty,
                "presence_penalty": request.presence_penalty,
                "seed": values["seed"],
                "stop": list(request.stop),
            },
            "prompt": self._tokenizer.decode(request.prompt_tokens or ()),
            "has_new_line": "\n" in content,
            "truncated": self._asked.truncated,
            "stop_type": "limit" if limited else "eos",
            "stopping_word": "",
            "tokens_cached": completion.prompt_tokens + completion.completion_tokens,
            "timings": self._timings(completion),
        }
        return answer if values["response_fields"] is None else _only(answer, values["response_fields"])

    def _timings(self, completion: Completion) -> dict[str, float]:
        ended = time.monotonic()
        first = ended if self._first is None else self._first
        return {
            **_timing("prompt", completion.prompt_tokens, first - self._started),
            **_timing("predicted", completion.completion_tokens, ended - first),
        }


def _timing(name: str, count: int, seconds: float) -> dict[str, float]:
    seconds = max(seconds, 1e-6)
    return {
        f"{name}_n": count,
        f"{name}_ms": 1000 * seconds,
        f"{name}_per_token_ms": 1000 * seconds / max(count, 1),
        f"{name}_per_second": count / seconds,
    }


def _only(answer: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The fields that were asked for by name; "a/b" is b inside a, and keeps that name."""
    found = {}
    for name in names:
        value: Any = answer
        for part in name.split("/"):
            value = value.get(part, _only) if isinstance(value, dict) else _only
        if value is not _only:
            found[name] = value
    return found
