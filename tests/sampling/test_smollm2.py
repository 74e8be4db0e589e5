"""The real teacher through the engine: the reference's greedy text, alone and in company."""

import asyncio
from pathlib import Path

import numpy as np

from demiurgic_jax.data.completer import CompletionRequest, Message
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.sampling.engine import Engine


def test_greedy_text_is_that_of_the_reference_whatever_runs_beside_it(smollm2_gguf: Path, shared_data: Path):
    model = import_model(smollm2_gguf)
    golden = np.load(shared_data / "golden" / "smollm2_135m_instruct_q4_1.npz")
    prompts = [model.tokenizer.decode(golden[f"ids_{i}"]) for i in range(3)]
    requests = [CompletionRequest(prompt=prompt, max_tokens=32) for prompt in prompts]
    company = [
        CompletionRequest(messages=(Message("user", "Say hello. " * 60),), max_tokens=16, temperature=1.0, seed=1),
        CompletionRequest(messages=(Message("user", "Write a haiku."),), max_tokens=16, temperature=1.0, seed=2),
    ]

    async def all_at_once(engine: Engine) -> list[str]:
        return [c.text for c in await asyncio.gather(*map(engine.complete, [*company, *requests]))]

    with Engine(model.config, model.params, model.tokenizer, slots=4) as engine:
        texts = asyncio.run(all_at_once(engine))[len(company) :]
    for i, text in enumerate(texts):
        ids = golden[f"greedy_{i}"].tolist()
        ended = next((n for n, token in enumerate(ids) if token in model.tokenizer.special.stops), len(ids))
        assert text == model.tokenizer.decode(ids[:ended])
