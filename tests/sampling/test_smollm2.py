"""The real teacher through the engine: the reference's greedy text, alone and in company, whichever way serves it."""

import ast
import asyncio
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from demiurgic_jax.checkpoints.checkpoint import open_stored
from demiurgic_jax.data.completer import Completion, CompletionRequest, Message
from demiurgic_jax.interop.huggingface_export import export_huggingface
from demiurgic_jax.interop.imported import import_model, write_checkpoint
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.sampling.engine import Engine

CONTEXT = 1024
PROMPTS, TOKENS = 50, 128


async def all_at_once(engine: Engine, requests: list[CompletionRequest]) -> list[Completion]:
    return list(await asyncio.gather(*map(engine.complete, requests)))


def test_greedy_text_is_that_of_the_reference_whatever_runs_beside_it(smollm2_gguf: Path, shared_data: Path):
    model = import_model(smollm2_gguf)
    golden = np.load(shared_data / "golden" / "smollm2_135m_instruct_q4_1.npz")
    prompts = [model.tokenizer.decode(golden[f"ids_{i}"]) for i in range(3)]
    requests = [CompletionRequest(prompt=prompt, max_tokens=32) for prompt in prompts]
    company = [
        CompletionRequest(messages=(Message("user", "Say hello. " * 60),), max_tokens=16, temperature=1.0, seed=1),
        CompletionRequest(messages=(Message("user", "Write a haiku."),), max_tokens=16, temperature=1.0, seed=2),
    ]
    with Engine(model.config, model.params, model.tokenizer, slots=4, max_context=CONTEXT) as engine:
        answers = asyncio.run(all_at_once(engine, [*company, *requests]))[len(company) :]
    for i, answer in enumerate(answers):
        ids = golden[f"greedy_{i}"].tolist()
        ended = next((n for n, token in enumerate(ids) if token in model.tokenizer.special.stops), len(ids))
        assert answer.text == model.tokenizer.decode(ids[:ended])


def real_prompts() -> list[str]:
    """Beginnings of functions of the standard library, some of them long."""
    source = Path(json.__file__).parent
    texts = [path.read_text() for path in sorted(source.parent.glob("*.py"))]
    functions = (
        ast.get_source_segment(text, node) or ""
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    )
    long_enough = (function for function in functions if len(function) > 600)
    chosen = itertools.islice(long_enough, 0, PROMPTS * 7, 7)
    return [function[: 60 + 45 * (i % 12)] for i, function in enumerate(chosen)]


@pytest.mark.slow
def test_every_greedy_token_is_the_one_transformers_takes(smollm2_gguf: Path, tmp_path: Path):
    torch = pytest.importorskip("torch", reason="transformers needs it to run a model")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = import_model(smollm2_gguf)
    write_checkpoint(model, tmp_path / "ours")
    export_huggingface(open_stored(tmp_path / "ours"), tmp_path / "hf", CardFacts("SmolLM2", "apache-2.0"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()

    prompts = real_prompts()
    assert len(prompts) == PROMPTS
    requests = [CompletionRequest(prompt=prompt, max_tokens=TOKENS, logprobs=0) for prompt in prompts]
    with Engine(model.config, model.params, model.tokenizer, slots=8, max_context=CONTEXT) as engine:
        together = asyncio.run(all_at_once(engine, requests))
        again = asyncio.run(all_at_once(engine, requests[:8]))
        done = engine.statistics
    with Engine(model.config, model.params, model.tokenizer, slots=1, max_context=CONTEXT, speculate=False) as plain:
        alone = [asyncio.run(plain.complete(request)) for request in requests[:8]]
    assert [answer.text for answer in again] == [answer.text for answer in together[:8]]
    assert [answer.text for answer in alone] == [answer.text for answer in together[:8]]
    assert done.cached_prompt_tokens > 0

    # What transformers says after the prompt and each token of the answer: the same tokens, hence the same greedy text.
    for prompt, answer in zip(prompts, together, strict=True):
        ids = model.tokenizer.encode(prompt)
        generated = tokens_of(model, answer)
        with torch.inference_mode():
            logits = theirs(torch.tensor([[*ids, *generated]])).logits[0, len(ids) - 1 :]
        taken = logits.argmax(-1).tolist()
        assert taken[: len(generated)] == generated
        assert answer.finish_reason == "length" or taken[len(generated)] in model.tokenizer.special.stops


def tokens_of(model, answer: Completion) -> list[int]:
    """The ids of the answer's tokens, by their texts."""
    by_text = {model.tokenizer.token_bytes(i): i for i in range(model.tokenizer.vocab_size)}
    return [by_text[as_bytes(entry.token)] for entry in answer.logprobs]


def as_bytes(token: str) -> bytes:
    if token.startswith("bytes:"):
        return bytes(int(pair, 16) for pair in token.removeprefix("bytes:").split("\\x")[1:])
    return token.encode()
