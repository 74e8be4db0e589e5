"""What each route of the server does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from demiurgic_jax.data.completer import Completion
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling import answering
from demiurgic_jax.sampling.answering import event
from demiurgic_jax.sampling.api_error import ApiError
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.guard import Gate
from demiurgic_jax.sampling.infill import InfillAnswer, InfillEnding, infill_request
from demiurgic_jax.sampling.observing import Observer, RequestRecord
from demiurgic_jax.sampling.openai_answers import ChatAnswer, CompletionAnswer, usage
from demiurgic_jax.sampling.openai_requests import ApiRequest, chat_request, completion_request
from demiurgic_jax.sampling.playground import CONTENT_SECURITY_POLICY, PAGE
from demiurgic_jax.sampling.request_fields import DETOKENIZE, TOKENIZE, read_body
from demiurgic_jax.sampling.stream import Piece, Stream

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"

logger = logging.getLogger(__name__)


class Routes:
    """The handlers, over one engine."""

    def __init__(self, engine: Engine, model_name: str, observer: Observer, gate: Gate) -> None:
        self._engine = engine
        self._model_name = model_name
        self._observer = observer
        self._gate = gate
        self._card = {"id": model_name, "object": "model", "created": 0, "owned_by": "demiurgic"}

    async def playground(self, request: Request) -> Response:
        return HTMLResponse(PAGE, headers={"content-security-policy": CONTENT_SECURITY_POLICY})

    async def health(self, request: Request) -> Response:
        state = "draining" if self._gate.draining else "ok"
        figures = {"active": self._engine.active, "waiting": self._engine.waiting, "slots": self._engine.slots}
        return JSONResponse({"status": state, **figures}, status_code=503 if self._gate.draining else 200)

    async def metrics(self, request: Request) -> Response:
        return Response(self._observer.metrics(), media_type=PROMETHEUS_TEXT)

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card]})

    async def model(self, request: Request) -> Response:
        self._check_model({"model": request.path_params["model"]})
        return JSONResponse(self._card)

    async def completions(self, request: Request) -> Response:
        body = await self._read(request, "prompt")
        asked = completion_request(body)
        lengths = [len(_prompt_text(asked, i, self._engine.tokenizer)) for i in range(len(asked.requests))]
        answer = CompletionAnswer(self._model_name, [length * (not asked.echo) for length in lengths])
        return await self._answer(request, body, asked, answer)

    async def chat_completions(self, request: Request) -> Response:
        body = await self._read(request, "messages")
        asked = chat_request(body, max_context=self._engine.max_context)
        return await self._answer(request, body, asked, ChatAnswer(self._model_name))

    async def infill(self, request: Request) -> Response:
        body = await self._read(request, "input_prefix", "prompt", "input_suffix")
        record = _record(request)
        asked = await asyncio.to_thread(infill_request, body, self._engine.tokenizer, self._engine.max_context)
        answer = InfillAnswer(asked, self._engine.tokenizer, self._model_name)
        (stream,) = await answering.submit(self._engine, [asked.request], body)
        ending = InfillEnding(asked.values["n_indent"], asked.values["t_max_predict_ms"] / 1000)
        record.stream = asked.values["stream"]
        if record.stream:
            return StreamingResponse(_infill_events(answer, stream, ending, record), media_type="text/event-stream")

        async def work() -> Completion:
            async for text in _middle(stream, ending, record):
                answer.took(text)
            return stream.result()

        try:
            completion = await answering.unless_disconnected(request, work())
        finally:
            stream.cancel()
        record.ended([completion])
        return JSONResponse(answer.whole(completion, cut=ending.ended))

    async def tokenize(self, request: Request) -> Response:
        values = read_body(await self._read(request), TOKENIZE)
        tokenizer = self._engine.tokenizer
        try:
            ids = await asyncio.to_thread(tokenizer.encode, values["content"], allow_special=values["parse_special"])
        except UserError as error:
            raise ApiError(400, f"content: {error}", param="content") from error
        if values["add_special"] and tokenizer.special.bos is not None:
            ids = [tokenizer.special.bos, *ids]
        pieces = [{"id": i, "piece": _piece(tokenizer.token_bytes(i))} for i in ids]
        return JSONResponse({"tokens": pieces if values["with_pieces"] else ids})

    async def detokenize(self, request: Request) -> Response:
        values = read_body(await self._read(request), DETOKENIZE)
        return JSONResponse({"content": self._engine.tokenizer.decode([int(i) for i in values["tokens"]])})

    async def _read(self, request: Request, *texts: str) -> dict[str, Any]:
        """The body, of which the fields `texts` are the prompt."""
        body = await answering.read_json(request)
        _record(request).prompt = {name: body[name] for name in texts if name in body}
        self._check_model(body)
        return body

    def _check_model(self, body: Mapping[str, Any]) -> None:
        if (model := body.get("model")) not in (None, "", self._model_name):
            raise ApiError(
                404,
                f"model {model!r} is not served here: use {self._model_name!r}",
                param="model",
                code="model_not_found",
            )

    async def _answer(
        self, request: Request, body: dict[str, Any], asked: ApiRequest, answer: CompletionAnswer | ChatAnswer
    ) -> Response:
        record = _record(request)
        record.stream = asked.stream
        streams = await answering.submit(self._engine, asked.requests, body, echo=asked.echo)
        prompts = [_echo(asked, index, self._engine.tokenizer) for index in range(len(streams))]
        if asked.stream:
            return StreamingResponse(_events(asked, answer, streams, prompts, record), media_type="text/event-stream")
        try:
            completions = await answering.unless_disconnected(request, answering.completions(streams, record))
        finally:
            answering.cancel(streams)
        record.ended(completions, asked.choices_per_prompt)
        choices = [
            answer.choice(index, completion, _judged(prompts[index], streams[index]))
            for index, completion in enumerate(completions)
        ]
        return JSONResponse(answer.whole(choices, usage(completions, asked.choices_per_prompt)))


def _record(request: Request) -> RequestRecord:
    return request.scope["demiurgic.record"]


def _prompt_text(asked: ApiRequest, index: int, tokenizer: Tokenizer) -> str:
    one = asked.requests[index]
    return tokenizer.decode(one.prompt_tokens) if one.prompt_tokens is not None else one.prompt or ""


def _echo(asked: ApiRequest, index: int, tokenizer: Tokenizer) -> str | None:
    """The prompt of a choice, where it is to be repeated."""
    return _prompt_text(asked, index, tokenizer) if asked.echo else None


def _judged(prompt: str | None, stream: Stream) -> Piece | None:
    return None if prompt is None else Piece(prompt, stream.prompt_logprobs)


def _piece(content: bytes) -> str | list[int]:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return list(content)


async def _events(
    asked: ApiRequest,
    answer: CompletionAnswer | ChatAnswer,
    streams: Sequence[Stream],
    prompts: Sequence[str | None],
    record: RequestRecord,
) -> AsyncIterator[str]:
    """Server-sent events. When the client goes, Starlette closes this generator and the slots are freed."""
    try:
        async for index, piece in answering.merged(streams, record):
            if isinstance(piece, Piece):
                yield event(answer.chunk(index, piece, logprobs=asked.requests[index].logprobs is not None))
            elif piece is None:
                for chunk in answer.opening(index, _judged(prompts[index], streams[index])):
                    yield event(chunk)
            else:
                yield event(answer.closing(index, piece))
        completions = [stream.result() for stream in streams]
        record.ended(completions, asked.choices_per_prompt)
        if asked.include_usage:
            yield event(answer.usage_chunk(usage(completions, asked.choices_per_prompt)))
        yield "data: [DONE]\n\n"
    except Exception as error:  # the status line is long sent: an event has to tell
        logger.exception("request %s failed while it was streamed", record.id)
        yield event(ApiError(500, f"the completion failed: {error}").content)
    finally:
        answering.cancel(streams)


async def _middle(stream: Stream, ending: InfillEnding, record: RequestRecord) -> AsyncIterator[str]:
    """Text up to where an editor wants it to end; the stream then ends by itself."""
    async for piece in stream:
        record.saw_token()
        text = ending.feed(piece.text)
        if ending.ended:
            stream.stop("length")
        if text:
            yield text
    if text := ending.finish():
        yield text


async def _infill_events(
    answer: InfillAnswer, stream: Stream, ending: InfillEnding, record: RequestRecord
) -> AsyncIterator[str]:
    try:
        async for text in _middle(stream, ending, record):
            answer.took(text)
            yield event(answer.chunk(text))
        record.ended([stream.result()])
        yield event(answer.whole(stream.result(), cut=ending.ended))
    except Exception as error:
        logger.exception("request %s failed while it was streamed", record.id)
        yield event(ApiError(500, f"the completion failed: {error}").content)
    finally:
        stream.cancel()
