"""A benchmark's questions to our engine and to `transformers`, the same weights in both: same answers, same scores?

python -m tools.benchmarks.agreement --model=SmolLM2.gguf --benchmarks=humaneval --max-tokens=128 --out=agreement
python -m tools.benchmarks.agreement --model=… --benchmarks=mbpp --limit=100 --max-tokens=128 --out=agreement
python -m tools.benchmarks.agreement --model=… --benchmarks=demiurgic-mini --every=5 --max-tokens=128 --out=agreement

Greedy, float32, the raw form, eight at once in both. `transformers` reads the weights and the tokenizer from a Hugging
Face folder that tools.export would write. Both are judged in the sandbox. A command that was stopped goes on. Where two
logits lie closer than float32 tells apart the texts may part: such problems are listed, with the logits' distance and
the error of float32 there.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.checkpoints.checkpoint import open_stored
from demiurgic_jax.evaluation.asking import Asking, Progress, evaluate_async
from demiurgic_jax.evaluation.benchmark import Benchmark
from demiurgic_jax.evaluation.catalogue import default_data_folder, load_benchmarks
from demiurgic_jax.evaluation.published import DataFolder
from demiurgic_jax.evaluation.results import Result, open_folder
from demiurgic_jax.interop.huggingface_export import export_huggingface
from demiurgic_jax.interop.imported import import_model, write_checkpoint
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.sampling.engine import Engine
from experiments.stages.cache import cache_folder
from tools.benchmarks.transformers_peer import Parting, TransformersCompleter

CONTEXT = 2048


@dataclass(frozen=True)
class Agreement:
    """One benchmark asked of both, in the same order of problems. `partings` has the problems whose texts differ; None
    where `transformers`, asked for that problem alone, writes what one of the two did and the other is cut short."""

    name: str
    ours: list[Result]
    theirs: list[Result]
    partings: dict[str, Parting | None]

    @property
    def verdicts_differing(self) -> list[str]:
        pairs = zip(self.ours, self.theirs, strict=True)
        return [one.problem for one, other in pairs if one.verdict != other.verdict]


def compare(model: Path, benchmarks: Sequence[Benchmark], out: Path, max_tokens: int, slots: int) -> list[Agreement]:
    """Asks both of each benchmark; what `out` has already is not asked again.

    UserError where `out` has the answers of another model or of another length."""
    files = {benchmark.name: benchmark.files for benchmark in benchmarks}
    open_folder(out, {"model": model.name, "max_tokens": max_tokens, "samples": 1, "benchmarks": files})
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
            report = said_every(60, f"{where}: {benchmark.name}")
            found.append(await evaluate_async(benchmark, completer, asking, out / where, progress=report))
        spent = f"{time.monotonic() - began:,.0f} s, {sum(os.times()[:4]) - cpu:,.0f} s of processor time"
        print(f"{where}: {spent}", file=sys.stderr, flush=True)
        return found

    with Engine(imported.config, imported.params, imported.tokenizer, slots=slots, max_context=context) as engine:
        ours = asyncio.run(ask(engine, "ours"))
    peer = TransformersCompleter(folder, context, batch=slots)
    theirs = asyncio.run(ask(peer, "theirs"))
    return [
        Agreement(benchmark.name, one, other, partings(peer, benchmark, one, other, max_tokens))
        for benchmark, one, other in zip(benchmarks, ours, theirs, strict=True)
    ]


def said_every(seconds: float, name: str) -> Callable[[Progress], None]:
    last = time.monotonic()

    def say(done: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > seconds:
            last = time.monotonic()
            print(
                f"{name}: {done.answered} of {done.total} answered, {done.passed} passed", file=sys.stderr, flush=True
            )

    return say


def partings(
    peer: TransformersCompleter, benchmark: Benchmark, ours: list[Result], theirs: list[Result], max_tokens: int
) -> dict[str, Parting | None]:
    """By problem, where the first text that differs parts: an explanation, or the answer."""
    found = {}
    for problem, one, other in zip(benchmark.problems, ours, theirs, strict=True):
        question = problem.question
        texts = one.explanation, other.explanation
        if one.explanation == other.explanation:
            question = problem.retelling.ask(one.explanation) if problem.retelling else question
            texts = one.answer, other.answer
        if texts[0] != texts[1]:
            request = question.request("raw", max_tokens=max_tokens or benchmark.max_tokens)
            found[problem.id] = peer.parting(request, *texts)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="a GGUF file or a Hugging Face folder")
    parser.add_argument("--benchmarks", required=True, help="names with commas, as tools.evaluate has them")
    parser.add_argument("--out", required=True, type=Path, help="where answers are kept")
    parser.add_argument("--data", type=Path, help="files of benchmarks (default: the cache folder)")
    parser.add_argument("--limit", type=int, default=0, help="only each benchmark's first problems (default: all)")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th problem (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=0, help="of an answer (default: the benchmark's)")
    parser.add_argument("--slots", type=int, default=8, help="answers at once (default: %(default)s)")
    options = parser.parse_args(argv)
    data = DataFolder(options.data or default_data_folder(cache_folder()))
    benchmarks = [part(each, options.limit, options.every) for each in load_benchmarks(options.benchmarks, data)]
    for each in compare(options.model, benchmarks, options.out, options.max_tokens, options.slots):
        same = len(each.ours) - len(each.partings)
        passed = [sum(result.passed for result in results) for results in (each.ours, each.theirs)]
        print(f"{each.name}: {same} of {len(each.ours)} answers the same, {passed[0]} and {passed[1]} passed")
        for problem, found in each.partings.items():
            print(f"  {problem}: {found}{', a tie' if found and found.is_tie else ''}")
        print(f"  other verdicts: {', '.join(each.verdicts_differing) or 'none'}")
    return 0


def part(benchmark: Benchmark, count: int = 0, every: int = 1) -> Benchmark:
    """Every so many-th of its first `count` problems (0: of all)."""
    problems = benchmark.problems[: count or None : every]
    return Benchmark(benchmark.name, problems, benchmark.files, benchmark.max_tokens)


if __name__ == "__main__":
    sys.exit(main())
