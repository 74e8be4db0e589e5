"""The student on code benchmarks: in the evaluate stage, and every so many steps while it trains."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.asking import Asking, Progress, evaluate, require_isolation
from demiurgic_jax.evaluation.benchmark import Benchmark
from demiurgic_jax.evaluation.catalogue import default_data_folder, load_benchmarks
from demiurgic_jax.evaluation.published import DataFolder
from demiurgic_jax.evaluation.report import Evaluation, write_report
from demiurgic_jax.evaluation.results import open_folder, read_settings
from demiurgic_jax.evaluation.scores import BenchmarkScores, benchmark_scores, failures
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.training.watching import Watch
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.stage import Run

SHOWN_FAILURES = 10


def configured(config: ConfigDict, names: str, progress: StageProgress | None = None) -> list[Benchmark]:
    """The benchmarks called `names`, cut to config.evaluate.limit problems each; none for an empty string.

    Raises UserError for what tools.evaluate refuses too, and where code cannot be isolated."""
    if not names:
        return []
    require_isolation(False)
    folder = Path(config.evaluate.data).expanduser() if config.evaluate.data else default_data_folder(cache_folder())
    data = DataFolder(folder)
    if progress is not None:
        shown = progress
        data = replace(data, progress=lambda name, done, total: shown(done, total, "bytes", name), say=shown.say)
    benchmarks = load_benchmarks(names, data)
    limit = config.evaluate.limit
    return [replace(each, problems=each.problems[:limit]) for each in benchmarks] if limit else benchmarks


def check_scoring(run: Run) -> None:
    """Before anything is paid for: are the benchmarks there, and can their code be run?"""
    fields = run.config.evaluate
    if fields.samples < 1 or fields.limit < 0:
        raise UserError("config.evaluate.samples must be at least 1, and config.evaluate.limit at least 0")
    if fields.samples > 1 and fields.temperature == 0:
        raise UserError(
            f"config.evaluate.samples={fields.samples} at temperature 0 would be the same answer again and again: set "
            "config.evaluate.temperature"
        )
    configured(run.config, fields.benchmarks)


def check_watching(run: Run) -> None:
    """The same for what train looks at on its way."""
    fields = run.config.evaluate
    if fields.watch_every < 0 or (fields.watch_every and not fields.watch_benchmarks):
        raise UserError(
            f"config.evaluate.watch_every={fields.watch_every} must be 0, or a number of steps with "
            "config.evaluate.watch_benchmarks to score"
        )
    if fields.watch_every and jax.process_count() > 1:
        raise UserError(
            "config.evaluate.watch_every samples from the model in one process, and this run has "
            f"{jax.process_count()}: set it to 0 and score checkpoints with python -m tools.evaluate"
        )
    if fields.watch_every:
        configured(run.config, fields.watch_benchmarks)


def score_benchmarks(
    run: Run, names: str, engine: Engine, out: Path, progress: StageProgress
) -> dict[str, dict[str, Any]]:
    """Asks, judges and reports in `out`; pass@k by benchmark, as report.json has it."""
    fields = run.config.evaluate
    benchmarks = configured(run.config, names, progress)
    asking = Asking(
        form="chat" if fields.chat else "raw",
        samples=fields.samples,
        temperature=fields.temperature,
        concurrency=run.config.teacher.slots,
    )
    settings = {
        "model": f"student of {run.name}",
        **{name: value for name, value in asdict(asking).items() if name not in ("concurrency", "attempts")},
        "limit": fields.limit,
        "max_context": engine.max_context,
        "benchmarks": {benchmark.name: benchmark.files for benchmark in benchmarks},
    }
    open_folder(out, settings)
    scores: list[BenchmarkScores] = []
    failed = {}
    for benchmark in benchmarks:

        def show(done: Progress, name: str = benchmark.name) -> None:
            progress(done.judged, done.total, "samples", f"{name}: {done.passed:,} passed")

        results = evaluate(benchmark, engine, asking, out, progress=show)
        scores.append(benchmark_scores(benchmark.name, results))
        failed[benchmark.name] = failures(results, SHOWN_FAILURES)
    write_report(out, Evaluation(read_settings(out), scores, failed))
    return {each.name: asdict(each) for each in scores}


def watching(run: Run, model: ModelConfig, tokenizer: Tokenizer, progress: StageProgress) -> Watch | None:
    """What scores the student every config.evaluate.watch_every steps, in train/watch/STEP; None where that is 0."""
    fields = run.config.evaluate
    if not fields.watch_every:
        return None

    def look(step: int, params: Any) -> Mapping[str, float]:
        # A step that is made again, after a kill or a spike, may have other parameters.
        out = run.file("train", "watch") / str(step)
        shutil.rmtree(out, ignore_errors=True)
        context = min(fields.max_context, model.max_context)
        slots = run.config.teacher.slots
        with Engine(model, jax.device_get(params), tokenizer, slots=slots, max_context=context) as engine:
            scored = score_benchmarks(run, fields.watch_benchmarks, engine, out, progress)
        return {
            f"pass_at_1/{name}": float(each["whole"]["pass_at"][1]["value"])
            for name, each in scored.items()
            if each["whole"] is not None
        }

    return Watch(fields.watch_every, look)
