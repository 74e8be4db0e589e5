"""Answers of an engine, waited for."""

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.stream import Stream


def whole(stream: Stream) -> Completion:
    for _ in stream:
        pass
    return stream.result()


def complete(engine: Engine, **options) -> Completion:
    return whole(engine.submit(CompletionRequest(**options)))
