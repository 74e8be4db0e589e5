"""A benchmark's questions to our engine and to `transformers`, the same weights in both: same answers, same scores?

python -m tools.benchmarks.agreement --model=SmolLM2.gguf --benchmarks=humaneval,mbpp,demiurgic-mini --out=agreement
python -m tools.benchmarks.agreement --model=… --benchmarks=humaneval --limit=20 --max-tokens=64 --out=agreement

Greedy, float32, the raw form. `transformers` reads the weights and the tokenizer from a Hugging Face folder that
tools.export would write, and generates one answer at a time. Both are judged in the sandbox. A command that was stopped
goes on. Where two logits lie closer than float32 tells apart the texts may part: such problems are listed.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.checkpoints.checkpoint import open_stored
from demiurgic_jax.data.completer import Completion, CompletionRequest, UnanswerableError
from demiurgic_jax.evaluation.asking import Asking, evaluate_async
from demiurgic_jax.evaluation.benchmark import Benchmark
from demiurgic_jax.evaluation.catalogue import default_data_folder, load_benchmarks
from demiurgic_jax.evaluation.published import DataFolder
from demiurgic_jax.evaluation.results import Result
from demiurgic_jax.interop.huggingface_export import export_huggingface
from demiurgic_jax.interop.imported import import_model, write_checkpoint
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.sampling.engine import Engine
from experiments.stages.cache import cache_folder

CONTEXT = 2048


class TransformersCompleter:
    """`generate` of `transformers` behind our protocol: greedy, raw prompts, one at a time."""

    def __init__(self, folder: Path, max_context: int):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        self.max_context = max_context
        self._alone = asyncio.Lock()

    async def complete(self, request: CompletionRequest) -> Completion:
        async with self._alone:
            return await asyncio.to_thread(self._complete, request)

    def _complete(self, request: CompletionRequest) -> Completion:
        import torch

        if request.messages or request.suffix is not None or request.temperature:
            raise UnanswerableError("only raw prompts are compared, greedily")
        ids = self.tokenizer(request.prompt, return_tensors="pt", add_special_tokens=False)
        length = ids["input_ids"].shape[1]
        room = self.max_context - length
        if room <= 0:
            raise UnanswerableError(f"the prompt has {length} tokens and the context holds {self.max_context}")

        def text_of(sequence: Any) -> str:
            # A byte-pair decoder may tidy spaces up; what was generated is wanted as it is.
            new = sequence[length:]
            return self.tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)

        def stopped(ids: Any, scores: Any, **_: Any) -> Any:
            text = text_of(ids[0])
            return torch.tensor([any(stop in text for stop in request.stop)])

        with torch.inference_mode():
            made = self.model.generate(
                **ids,
                do_sample=False,
                max_new_tokens=min(room, request.max_tokens),
                pad_token_id=0,
                stopping_criteria=[stopped],
            )
        text, new = text_of(made[0]), made[0, length:].tolist()
        found = [place for stop in request.stop if (place := text.find(stop)) >= 0]
        ended = bool(found) or new[-1] in _as_list(self.model.generation_config.eos_token_id)
        return Completion(text[: min(found)] if found else text, "stop" if ended else "length", length, len(new))


@dataclass(frozen=True)
class Agreement:
    """One benchmark asked of both, in the same order of problems."""

    name: str
    ours: list[Result]
    theirs: list[Result]

    @property
    def differing(self) -> list[tuple[Result, Result]]:
        return [pair for pair in zip(self.ours, self.theirs, strict=True) if pair[0].answer != pair[1].answer]

    @property
    def verdicts_differing(self) -> list[tuple[Result, Result]]:
        return [pair for pair in zip(self.ours, self.theirs, strict=True) if pair[0].verdict != pair[1].verdict]


def compare(model: Path, benchmarks: Sequence[Benchmark], out: Path, max_tokens: int, slots: int) -> list[Agreement]:
    """Asks both of each benchmark; what `out` has already is not asked again."""
    folder = out / "transformers"
    imported = import_model(model)
    if not folder.exists():
        write_checkpoint(imported, out / "checkpoint")
        facts = CardFacts(model.name, "unknown")
        export_huggingface(open_stored(out / "checkpoint"), folder, facts, dtype=np.dtype("float32"))
    context = min(CONTEXT, imported.config.max_context)
    asking = Asking(max_tokens=max_tokens, concurrency=slots)

    async def ask(completer: Any, where: str) -> list[list[Result]]:
        began, cpu, found = time.monotonic(), sum(os.times()[:4]), []
        for benchmark in benchmarks:
            found.append(await evaluate_async(benchmark, completer, asking, out / where))
        spent = f"{time.monotonic() - began:,.0f} s, {sum(os.times()[:4]) - cpu:,.0f} s of processor time"
        print(f"{where}: {spent}", file=sys.stderr, flush=True)
        return found

    with Engine(imported.config, imported.params, imported.tokenizer, slots=slots, max_context=context) as engine:
        ours = asyncio.run(ask(engine, "ours"))
    theirs = asyncio.run(ask(TransformersCompleter(folder, context), "theirs"))
    named = zip(benchmarks, ours, theirs, strict=True)
    return [Agreement(benchmark.name, one, other) for benchmark, one, other in named]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="a GGUF file or a Hugging Face folder")
    parser.add_argument("--benchmarks", required=True, help="names with commas, as tools.evaluate has them")
    parser.add_argument("--out", required=True, type=Path, help="where answers are kept")
    parser.add_argument("--data", type=Path, help="files of benchmarks (default: the cache folder)")
    parser.add_argument("--limit", type=int, default=0, help="only each benchmark's first problems (default: all)")
    parser.add_argument("--max-tokens", type=int, default=0, help="of an answer (default: the benchmark's)")
    parser.add_argument("--slots", type=int, default=8, help="answers at once in our engine (default: %(default)s)")
    options = parser.parse_args(argv)
    data = DataFolder(options.data or default_data_folder(cache_folder()))
    benchmarks = [first(each, options.limit) for each in load_benchmarks(options.benchmarks, data)]
    for each in compare(options.model, benchmarks, options.out, options.max_tokens, options.slots):
        same = len(each.ours) - len(each.differing)
        passed = [sum(result.passed for result in results) for results in (each.ours, each.theirs)]
        print(f"{each.name}: {same} of {len(each.ours)} answers the same, {passed[0]} and {passed[1]} passed")
        for one, other in each.differing:
            place = next((n for n, (a, b) in enumerate(zip(one.answer, other.answer, strict=False)) if a != b), None)
            print(
                f"  {one.problem}: {one.answer[place:][:40]!r} and {other.answer[place:][:40]!r} at character {place}"
            )
    return 0


def first(benchmark: Benchmark, count: int) -> Benchmark:
    """Its first `count` problems, all for 0."""
    problems = benchmark.problems[: count or None]
    return Benchmark(benchmark.name, problems, benchmark.files, benchmark.max_tokens)


def _as_list(value: Any) -> list[int]:
    return value if isinstance(value, list) else [value]


if __name__ == "__main__":
    sys.exit(main())
