"""Answers of the OpenAI API: whole ones and the chunks of a stream."""

import math
import time
import uuid
from collections.abc import Sequence
from typing import Any

from demiurgic_jax.data.completer import Completion, TokenLogprob
from demiurgic_jax.sampling.stream import Piece


class CompletionAnswer:
    """/v1/completions. One object per HTTP request: `whole`, or `chunk` after `chunk`."""

    def __init__(self, model: str, prompt_lengths: Sequence[int]) -> None:
        """`prompt_lengths` in characters, one per choice: where its text offsets begin."""
        self._head = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._offsets = list(prompt_lengths)

    def whole(self, choices: Sequence[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        return {**self._head, "object": "text_completion", "choices": list(choices), "usage": usage}

    def choice(self, index: int, completion: Completion, echo: Piece | None) -> dict[str, Any]:
        """One whole choice, the prompt in front where `echo` holds it."""
        text, logprobs = completion.text, completion.logprobs
        if echo is not None:
            text = echo.text + text
            logprobs = None if logprobs is None else echo.logprobs + logprobs
        return {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(index, logprobs),
            "finish_reason": completion.finish_reason,
        }

    def opening(self, index: int, echo: Piece | None) -> list[dict[str, Any]]:
        return [] if echo is None else [self.chunk(index, echo, logprobs=bool(echo.logprobs))]

    def chunk(self, index: int, piece: Piece, *, logprobs: bool) -> dict[str, Any]:
        return self._chunk(index, piece.text, self._logprobs(index, piece.logprobs if logprobs else None), None)

    def closing(self, index: int, completion: Completion) -> dict[str, Any]:
        return self._chunk(index, "", None, completion.finish_reason)

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        return {**self._head, "object": "text_completion", "choices": [], "usage": usage}

    def _chunk(self, index: int, text: str, logprobs: Any, reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head, "object": "text_completion", "choices": [choice]}

    def _logprobs(self, index: int, entries: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
        if entries is None:
            return None
        offsets = []
        for entry in entries:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(entry.token)
        judged = [not math.isnan(entry.logprob) for entry in entries]
        return {
            "tokens": [entry.token for entry in entries],
            "token_logprobs": [e.logprob if known else None for e, known in zip(entries, judged, strict=True)],
            "top_logprobs": [dict(e.top) if known else None for e, known in zip(entries, judged, strict=True)],
            "text_offset": offsets,
        }


class ChatAnswer:
    """/v1/chat/completions, likewise."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, choices: Sequence[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion", "choices": list(choices), "usage": usage}

    def choice(self, index: int, completion: Completion, echo: Piece | None) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": completion.text, "refusal": None},
            "logprobs": _chat_logprobs(completion.logprobs),
            "finish_reason": completion.finish_reason,
        }

    def opening(self, index: int, echo: Piece | None) -> list[dict[str, Any]]:
        return [self._chunk(index, {"role": "assistant", "content": ""}, None, None)]

    def chunk(self, index: int, piece: Piece, *, logprobs: bool) -> dict[str, Any]:
        entries = _chat_logprobs(piece.logprobs if logprobs else None)
        return self._chunk(index, {"content": piece.text}, entries, None)

    def closing(self, index: int, completion: Completion) -> dict[str, Any]:
        return self._chunk(index, {}, None, completion.finish_reason)

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _chunk(self, index: int, delta: dict[str, str], logprobs: Any, reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}


def usage(completions: Sequence[Completion], choices_per_prompt: int) -> dict[str, int]:
    """Token counts: each prompt once, every choice's tokens."""
    prompt = sum(completion.prompt_tokens for completion in completions[::choices_per_prompt])
    generated = sum(completion.completion_tokens for completion in completions)
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _chat_logprobs(entries: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    if entries is None:
        return None

    def one(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(_token_bytes(token))}

    content = [one(e.token, e.logprob) | {"top_logprobs": [one(*top) for top in e.top]} for e in entries]
    return {"content": content, "refusal": None}


def _token_bytes(token: str) -> bytes:
    """The bytes behind a token's text, which for a part of a character spells them (row.token_text)."""
    if token.startswith("bytes:\\x"):
        return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
    return token.encode()
