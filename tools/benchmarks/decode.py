"""Decoding speed: tokens per second of one stream, of many, and of prefill.

    python -m tools.benchmarks.decode MODEL.gguf            a GGUF file or a Hugging Face folder
    python -m tools.benchmarks.decode runs/quickstart/train/checkpoints

Where `torch` and `transformers` are installed, their `generate` runs on the same weights and prompts. The
contestants take turns, round by round, so that a busy machine slows them alike; medians are printed.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.sampling.engine import Engine
from tools.benchmarks.peer import llama

PROMPT = "def fibonacci(n):\n    "
PREFILL_TOKENS = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoints folder, GGUF file or Hugging Face folder")
    parser.add_argument("--streams", type=int, default=8, help="requests at once (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: %(default)s)")
    options = parser.parse_args()
    try:
        model = open_any(options.model)
    except UserError as error:
        print(f"decode: {error}", file=sys.stderr)
        return 2
    with (
        Engine(model.config, model.params, model.tokenizer, slots=1) as single,
        Engine(model.config, model.params, model.tokenizer, slots=options.streams) as many,
    ):
        contestants = {
            "engine": ours(single, many, options.streams, options.tokens),
            **transformers(model, options.streams, options.tokens),
        }
        report(contestants, options.rounds)
    return 0


def open_any(path: str) -> Any:
    """A model of ours or an imported one."""
    steps = Path(path).glob("*/card") if Path(path).is_dir() else ()
    return open_model(path) if any(steps) or (Path(path) / "card").is_dir() else import_model(path)


# A contestant: what is measured → a function that does it once and returns its tokens.
Contestant = dict[str, Callable[[], int]]


def ours(single: Engine, many: Engine, streams: int, tokens: int) -> Contestant:
    long_prompt = single.tokenizer.decode(single.tokenizer.encode(PROMPT * 200)[:PREFILL_TOKENS])

    def run(engine: Engine, count: int, prompt: str, max_tokens: int) -> list[Any]:
        async def all_of() -> list[Any]:
            requests = [CompletionRequest(prompt=f"{prompt}# {i}\n", max_tokens=max_tokens) for i in range(count)]
            return list(await asyncio.gather(*map(engine.complete, requests)))

        return asyncio.run(all_of())

    return {
        "one stream": lambda: sum(c.completion_tokens for c in run(single, 1, PROMPT, tokens)),
        f"{streams} streams": lambda: sum(c.completion_tokens for c in run(many, streams, PROMPT, tokens)),
        "prefill": lambda: sum(c.prompt_tokens for c in run(single, 1, long_prompt, 1)),
    }


def transformers(model: Any, streams: int, tokens: int) -> dict[str, Contestant]:
    """The same network in `transformers`, float32; nothing where it or torch is missing."""
    try:
        import torch

        network = llama(model.config, eos_token_id=None).eval()
    except ImportError as error:
        print(f"without transformers ({error})", file=sys.stderr)
        return {}
    ids = torch.tensor([model.tokenizer.encode(PROMPT)])
    long_ids = torch.tensor([model.tokenizer.encode(PROMPT * 200)[:PREFILL_TOKENS]])

    @torch.inference_mode()
    def generate(count: int) -> int:
        batch = ids.repeat(count, 1)
        out = network.generate(batch, attention_mask=torch.ones_like(batch), max_new_tokens=tokens, do_sample=False)
        return (out.shape[1] - ids.shape[1]) * count

    @torch.inference_mode()
    def prefill() -> int:
        network(long_ids, logits_to_keep=1)
        return long_ids.shape[1]

    return {
        "transformers": {
            "one stream": lambda: generate(1),
            f"{streams} streams": lambda: generate(streams),
            "prefill": prefill,
        }
    }


def report(contestants: dict[str, Contestant], rounds: int) -> None:
    rates: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds + 1):
        for name, contestant in contestants.items():
            for what, run in contestant.items():
                began = time.perf_counter()
                tokens = run()
                if turn:  # the first one compiles
                    rates.setdefault((what, name), []).append(tokens / (time.perf_counter() - began))
    for (what, name), values in sorted(rates.items()):
        low, high = np.min(values), np.max(values)
        print(f"{what:12} {name:14} {statistics.median(values):8.1f} tokens/s  ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    sys.exit(main())
