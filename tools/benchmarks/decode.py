"""Decoding speed against the peers: one stream, many streams, the reading of a prompt; and what the engine's ways save.

    python -m tools.benchmarks.decode MODEL.gguf            a GGUF file or a Hugging Face folder
    python -m tools.benchmarks.decode runs/quickstart/train/checkpoints
    python -m tools.benchmarks.decode MODEL --llama-cpp=.venv-llama/bin/python

Where `torch` and `transformers` are installed, their `generate` runs with the same shapes; with --llama-cpp, a Python
that has `llama-cpp-python`, llama.cpp runs the same weights in F32. The contestants take turns, round by round, so that
a busy machine slows them alike; printed are medians, and of each ratio the median of the rounds' own.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.sampling.engine import Engine
from tools.benchmarks.llama_peer import llama_cpp
from tools.benchmarks.peer import llama

PROMPT = "def fibonacci(n):\n    "
FILE_TOKENS = 1500
MAX_CONTEXT = 2048
EDITS = (
    "Rename the variable total to amount and give the whole function.",
    "Fix the bug: an empty list must give 0.0. Give the whole function.",
    "Add type hints and give the whole function.",
)
FUNCTION = """def average_price(items, tax_rate, discount):
    total = 0
    for item in items:
        price = item["price"] * item["quantity"]
        if item["category"] in ("book", "food"):
            price = price * (1 + tax_rate / 2)
        else:
            price = price * (1 + tax_rate)
        if item["quantity"] > 10:
            price = price * (1 - discount)
        total = total + price
    return total / len(items)
"""


class Contestant(NamedTuple):
    """What is measured → a function that does it once and returns how many tokens that were; and a clock of the time
    for which processors have computed for it."""

    runs: dict[str, Callable[[], int]]
    cpu_seconds: Callable[[], float] = time.process_time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoints folder, GGUF file or Hugging Face folder")
    parser.add_argument("--streams", type=int, default=8, help="requests at once (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer (default: %(default)s)")
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the prompt read (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: %(default)s)")
    parser.add_argument("--llama-cpp", metavar="PYTHON", help="an interpreter that has llama-cpp-python")
    parser.add_argument("--only", help="comma-separated contestants (default: all there are)")
    options = parser.parse_args()
    try:
        model = open_any(options.model)
        with ExitStack() as stack:
            contestants = everyone(model, options, stack)
            report(contestants, options.rounds)
    except UserError as error:
        print(f"decode: {error}", file=sys.stderr)
        return 2
    return 0


def everyone(model: Any, options: argparse.Namespace, stack: ExitStack) -> dict[str, Contestant]:
    """All contestants, ready to run."""
    sizes = (options.streams, options.tokens, options.prefill)
    made: dict[str, Callable[[], Contestant]] = {
        "engine": lambda: ours(model, *sizes, stack),
        "engine int8": lambda: ours(model, *sizes, stack, int8_weights=True),
        "ways": lambda: ways(model, stack),
        "transformers": lambda: transformers(model, *sizes),
    }
    if options.llama_cpp:
        made["llama.cpp"] = lambda: peer_cpp(model, options.llama_cpp, *sizes, stack)
    if options.only:
        if unknown := set(options.only.split(",")) - made.keys():
            raise UserError(f"--only names {min(unknown)!r}: known are {', '.join(made)}")
        made = {name: make for name, make in made.items() if name in options.only.split(",")}
    return {name: make() for name, make in made.items()}


def open_any(path: str) -> Any:
    """A model of ours or an imported one."""
    steps = Path(path).glob("*/card") if Path(path).is_dir() else ()
    return open_model(path) if any(steps) or (Path(path) / "card").is_dir() else import_model(path)


def engine(model: Any, stack: ExitStack, **options: Any) -> Engine:
    context = min(MAX_CONTEXT, model.config.max_context)
    made = Engine(model.config, model.params, model.tokenizer, max_context=context, **options)
    return stack.enter_context(made)


def run(engine: Engine, requests: list[CompletionRequest]) -> list[Any]:
    """The completions of requests that are made at once."""

    async def all_of() -> list[Any]:
        return list(await asyncio.gather(*map(engine.complete, requests)))

    return asyncio.run(all_of())


def ours(model: Any, streams: int, tokens: int, prefill: int, stack: ExitStack, **options: Any) -> Contestant:
    """One token at a time and every prompt read whole: the work that the peers do."""
    plain = options | {"prefix_cache": False, "speculate": False}
    single, many = engine(model, stack, slots=1, **plain), engine(model, stack, slots=streams, **plain)
    ids = model.tokenizer.encode(PROMPT * prefill)[:prefill]

    def decode(engine: Engine, count: int) -> int:
        answers = run(engine, [CompletionRequest(prompt=f"{PROMPT}# {i}\n", max_tokens=tokens) for i in range(count)])
        return sum(answer.completion_tokens for answer in answers)

    def read() -> int:
        return run(single, [CompletionRequest(prompt_tokens=tuple(ids), max_tokens=1)])[0].prompt_tokens

    return Contestant(
        {"one stream": lambda: decode(single, 1), f"{streams} streams": lambda: decode(many, streams), "prefill": read}
    )


def ways(model: Any, stack: ExitStack) -> Contestant:
    """Edits with and without guesses; and the first token after a file, of which the cache knows nothing or all."""
    options = {"slots": 1, "prefix_cache": True}
    guessing, plain = engine(model, stack, **options), engine(model, stack, **options, speculate=False)
    files = engine(model, stack, slots=2)  # the known file keeps one, new ones take the other
    text = FUNCTION * 40
    turn = iter(range(10**6))

    def edit(engine: Engine) -> int:
        prompts = [f"# {request}\n# Before:\n{FUNCTION}\n# After:\n" for request in EDITS]
        requests = [CompletionRequest(prompt=prompt, max_tokens=96) for prompt in prompts]
        return sum(run(engine, [request])[0].completion_tokens for request in requests)

    def first_token(prompt: str) -> int:
        ids = tuple(model.tokenizer.encode(prompt)[:FILE_TOKENS])
        run(files, [CompletionRequest(prompt_tokens=ids, max_tokens=1)])
        return 1

    def new_file() -> int:
        return first_token(f"# version {next(turn)}\n{text}")

    return Contestant(
        {
            "edits, plain": lambda: edit(plain),
            "edits, guessed": lambda: edit(guessing),
            "first token, new file": new_file,
            "first token, known file": lambda: first_token(text),
        }
    )


def transformers(model: Any, streams: int, tokens: int, prefill: int) -> Contestant:
    """The same network in `transformers`, float32; nothing where it or torch is missing."""
    try:
        import torch

        network = llama(model.config, eos_token_id=None).eval()
    except ImportError as error:
        print(f"without transformers ({error})", file=sys.stderr)
        return Contestant({})
    ids = torch.tensor([model.tokenizer.encode(PROMPT)])
    long_ids = torch.tensor([model.tokenizer.encode(PROMPT * prefill)[:prefill]])

    @torch.inference_mode()
    def generate(count: int) -> int:
        batch = ids.repeat(count, 1)
        out = network.generate(batch, attention_mask=torch.ones_like(batch), max_new_tokens=tokens, do_sample=False)
        return (out.shape[1] - ids.shape[1]) * count

    @torch.inference_mode()
    def read() -> int:
        network(long_ids, logits_to_keep=1)
        return long_ids.shape[1]

    return Contestant(
        {"one stream": lambda: generate(1), f"{streams} streams": lambda: generate(streams), "prefill": read}
    )


def peer_cpp(model: Any, python: str, streams: int, tokens: int, prefill: int, stack: ExitStack) -> Contestant:
    """llama.cpp over the same weights in F32, in a process of its own."""
    peer = stack.enter_context(llama_cpp(python, model, os.cpu_count() or 1))
    prompt = model.tokenizer.encode(PROMPT)
    ids = model.tokenizer.encode(PROMPT * prefill)[:prefill]
    runs = {
        "one stream": lambda: peer.run(prompt, 1, tokens),
        f"{streams} streams": lambda: peer.run(prompt, streams, tokens),
        "prefill": lambda: peer.run(ids, 1, 1),
    }
    return Contestant(runs, lambda: peer.cpu_seconds)


RATIOS = (
    ("one stream", "engine", "one stream", "transformers"),
    ("one stream", "engine", "one stream", "llama.cpp"),
    ("one stream", "engine int8", "one stream", "engine"),
    ("{streams} streams", "engine", "{streams} streams", "transformers"),
    ("{streams} streams", "engine", "{streams} streams", "llama.cpp"),
    ("{streams} streams", "engine int8", "{streams} streams", "engine"),
    ("prefill", "engine", "prefill", "transformers"),
    ("prefill", "engine", "prefill", "llama.cpp"),
    ("prefill", "engine int8", "prefill", "engine"),
    ("edits, guessed", "ways", "edits, plain", "ways"),
    ("first token, known file", "ways", "first token, new file", "ways"),
)


def report(contestants: dict[str, Contestant], rounds: int) -> None:
    """Rates by the clock, and by the time for which processors computed, which a busy machine blurs less."""
    rates: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for turn in range(rounds + 2):
        for name, contestant in contestants.items():
            for what, once in contestant.runs.items():
                began, computed = time.perf_counter(), contestant.cpu_seconds()
                tokens = once()
                if turn > 1:  # the first ones compile, and learn how long a step takes
                    elapsed, computed = time.perf_counter() - began, contestant.cpu_seconds() - computed
                    rates.setdefault((what, name), []).append((tokens / elapsed, tokens / computed))
        print(f"round {turn - 1} of {rounds}" if turn > 1 else "warming up", file=sys.stderr, flush=True)
    print(f"{'':39} tokens/s (lowest to highest)   tokens per CPU second")
    for (what, name), values in sorted(rates.items()):
        clock, cpu = zip(*values, strict=True)
        span = f"({min(clock):.1f} to {max(clock):.1f})"
        print(f"{what:24} {name:14} {statistics.median(clock):8.1f} {span:20} {statistics.median(cpu):8.1f}")
    streams = next((what for what, _ in rates if what.endswith(" streams")), "")
    for what, name, other_what, other in RATIOS:
        what, other_what = (text.replace("{streams} streams", streams) for text in (what, other_what))
        one, two = rates.get((what, name)), rates.get((other_what, other))
        if one and two:
            by_clock, by_cpu = (statistics.median(a[i] / b[i] for a, b in zip(one, two, strict=True)) for i in range(2))
            print(f"{name + ': ' + what:38} {by_clock:5.2f} × (CPU {by_cpu:5.2f} ×) {other}: {other_what}")


if __name__ == "__main__":
    sys.exit(main())
