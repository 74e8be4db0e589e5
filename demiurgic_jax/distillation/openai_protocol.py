"""OpenAI-style answers to Completion, with what a ledger must know of the ones that are not whole."""

from typing import Any, Literal

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.data.openai_wire import read_logprobs
from demiurgic_jax.distillation.failures import AnswerLostError, RequestRefusedError
from demiurgic_jax.distillation.pricing import prompt_tokens_at_most


def read_answer(request: CompletionRequest, answer: dict[str, Any]) -> Completion:
    """The completion in a decoded answer. Usage that the server does not tell is taken at its upper bound.

    Raises RequestRefusedError where a content filter ended the answer and AnswerLostError where parts are missing.
    """
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"] if request.messages else choice["text"]
        logprobs = read_logprobs(choice.get("logprobs"))
        usage = answer.get("usage") or {}
        return Completion(
            text=text or "",
            finish_reason=_finish_reason(choice.get("finish_reason")),
            prompt_tokens=int(usage.get("prompt_tokens", prompt_tokens_at_most(request))),
            completion_tokens=int(usage.get("completion_tokens", request.max_tokens)),
            logprobs=logprobs,
            raw=answer,
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise AnswerLostError(f"the answer lacks a part of the OpenAI format ({error!r})") from error


def _finish_reason(reason: str | None) -> Literal["stop", "length"]:
    if reason == "length":
        return "length"
    if reason == "content_filter":
        raise RequestRefusedError("the teacher's content filter ended the answer")
    return "stop"
