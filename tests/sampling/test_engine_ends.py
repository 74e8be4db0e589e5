"""Where an answer ends, what of a prompt is taken, and what the engine tells of itself."""

import threading
import time

import pytest
from whole_answers import complete, whole

from demiurgic_jax.data.completer import Completion, CompletionRequest, Message
from demiurgic_jax.data.fim_families import FimFormat
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.engine import CancelledError, Engine, EngineStoppedError
from demiurgic_jax.sampling.fim_budget import fit_fim

LONG = CompletionRequest(prompt="for", max_tokens=900)


def test_a_stop_token_ends_the_text_before_itself(engine: Engine, tokenizer: Tokenizer):
    free = complete(engine, prompt="for", max_tokens=20, logprobs=0)
    tokens = [entry.token for entry in free.logprobs]
    last = next(i for i in range(3, 20) if tokens[i] not in tokens[:i] and len(tokenizer.encode(tokens[i])) == 1)
    (stop,) = tokenizer.encode(tokens[last])
    answer = complete(engine, prompt="for", max_tokens=20, stop_tokens=(stop,), logprobs=0)
    assert answer.finish_reason == "stop"
    assert [entry.token for entry in answer.logprobs] == tokens[:last]
    assert answer.completion_tokens == last + 1


def test_time_ends_an_answer_with_what_there_is(engine: Engine):
    free = complete(engine, **vars(LONG))
    began = time.monotonic()
    answer = complete(engine, **(vars(LONG) | {"max_seconds": 0.0}))
    assert answer.finish_reason == "length"
    assert answer.completion_tokens < free.completion_tokens
    assert free.text.startswith(answer.text)
    assert time.monotonic() - began < 10


def test_a_stream_that_is_stopped_ends_as_a_completion(engine: Engine):
    stream = engine.submit(LONG)
    text = ""
    for count, piece in enumerate(stream):
        text += piece.text
        if count == 2:
            stream.stop("length")
    answer = stream.result()
    assert answer.text == text
    assert answer.finish_reason == "length"
    assert 3 <= answer.completion_tokens < 900
    stream.stop()  # too late, and no harm


def test_a_request_that_waits_can_be_stopped(config: ModelConfig, params: dict, tokenizer: Tokenizer):
    with Engine(config, params, tokenizer, slots=1) as engine:
        running, waiting = engine.submit(LONG), engine.submit(LONG)
        next(iter(running))
        assert (engine.active, engine.waiting, engine.slots) == (1, 1, 1)
        waiting.stop()
        assert whole(waiting) == Completion("", "stop", waiting.result().prompt_tokens, 0)
        running.cancel()


def test_a_prompt_of_ids_is_the_prompt_of_its_text(engine: Engine, tokenizer: Tokenizer):
    ids = tuple(tokenizer.encode("for number in"))
    of_text = complete(engine, prompt="for number in", max_tokens=9)
    assert complete(engine, prompt_tokens=ids, max_tokens=9) == of_text
    assert complete(engine, prompt_tokens=(), max_tokens=9) == complete(engine, prompt="", max_tokens=9)


def test_a_long_prompt_is_cut_at_its_left_where_that_is_asked_for(engine: Engine, tokenizer: Tokenizer):
    prompt = "for number in range(10):\n" * 300
    answer = complete(engine, prompt=prompt, max_tokens=20, truncate=True)
    assert (answer.prompt_tokens, answer.completion_tokens) == (engine.max_context - 20, 20)
    kept = tokenizer.encode(prompt)[-(engine.max_context - 20) :]
    assert answer == complete(engine, prompt_tokens=tuple(kept), max_tokens=20)
    # An answer without an end takes half of the context.
    endless = engine.submit(CompletionRequest(prompt=prompt, max_tokens=10**6, truncate=True))
    next(iter(endless))
    endless.stop()
    assert whole(endless).prompt_tokens == engine.max_context // 2


def test_a_cut_fill_in_the_middle_keeps_what_is_next_to_the_hole(engine: Engine, tokenizer: Tokenizer):
    before, after = "for number in range(10):\n" * 300, "return a + b\n" * 300
    room = engine.max_context - 20
    kept = fit_fim(FimFormat(tokenizer, ""), before, after, (), room).tokens
    assert room - 30 < len(kept) <= room
    answer = complete(engine, prompt=before, suffix=after, max_tokens=20, truncate=True)
    assert answer == complete(engine, prompt_tokens=tuple(kept), max_tokens=20)


def test_a_conversation_can_be_cut_too(engine: Engine):
    messages = (Message("user", "add numbers " * 600),)
    assert complete(engine, messages=messages, max_tokens=5, truncate=True).completion_tokens == 5


def test_draining_takes_nothing_more_and_finishes_what_there_is(
    config: ModelConfig, params: dict, tokenizer: Tokenizer
):
    with Engine(config, params, tokenizer, slots=1) as engine:
        streams = [engine.submit(CompletionRequest(prompt="for", max_tokens=60)) for _ in range(3)]
        endless = engine.submit(LONG)
        assert not engine.drain(0.0)
        with pytest.raises(EngineStoppedError, match="takes no more requests"):
            engine.submit(LONG)
        threading.Timer(1.0, endless.cancel).start()
        assert engine.drain(120)
        assert [whole(stream).completion_tokens for stream in streams] == [60, 60, 60]
        assert (engine.active, engine.waiting) == (0, 0)


def test_the_engine_tells_what_it_has_done(config: ModelConfig, params: dict, tokenizer: Tokenizer):
    with Engine(config, params, tokenizer, slots=4) as engine:
        answers = [complete(engine, prompt="for number in range(10):" * 5, max_tokens=n) for n in (5, 7)]
        gone = engine.submit(LONG)
        next(iter(gone))
        gone.cancel()
        with pytest.raises(CancelledError):
            whole(gone)
        assert engine.drain(10)
        done = engine.statistics
    assert (done.requests_finished, done.requests_cancelled, done.requests_failed) == (2, 1, 0)
    assert done.prompt_tokens == 2 * answers[0].prompt_tokens + len(tokenizer.encode("for"))
    assert done.cached_prompt_tokens >= answers[0].prompt_tokens - 1
    assert done.generated_tokens > 12
    assert done.busy_seconds > 0
    assert done.accepted_tokens <= done.drafted_tokens
