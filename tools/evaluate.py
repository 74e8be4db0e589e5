"""Scores a model on code benchmarks: from a checkpoint, or at any OpenAI-compatible URL.

    python -m tools.evaluate --checkpoint=runs/quickstart/train/checkpoints --benchmarks=demiurgic-mini:python --out=OUT
    python -m tools.evaluate --checkpoint=model.gguf --benchmarks=humaneval,mbpp --out=OUT
    python -m tools.evaluate --url=http://127.0.0.1:8000/v1 --chat --benchmarks=humanevalpack-fix:python+go --out=OUT
    python -m tools.evaluate --url=… --benchmarks=humaneval --samples=20 --temperature=0.8 --out=OUT
    python -m tools.evaluate --checkpoint=… --benchmarks=humaneval --compare=OTHER_OUT --out=OUT

Benchmarks, with commas between them:

    demiurgic-mini[:LANGUAGES]   our own, in the package: five skills, seven languages; small models solve some of it
    humaneval, humaneval+        Python functions from their docstrings; + with many more tests
    mbpp, mbpp+                  short Python programs from a sentence, after three examples
    infilling-single, -multi, -random           holes in HumanEval's solutions; needs a model that fills in the middle
    multipl-e-ts                 HumanEval in TypeScript
    humanevalpack-synthesize, -fix, -explain    in python, js, java, cpp, go, rust; some of them: …-fix:go+rust

Their files are read from --data, or fetched there once and checked. The model's code runs in the sandbox only, so
bubblewrap is needed (apt install bubblewrap). OUT gets report.html, report.md, report.json, and for every benchmark
results.jsonl with each prompt, answer, verdict and reason. A command that was stopped, or whose URL died, is run again
and goes on: no answer is asked for twice. docs/evaluation.md says how scores are made.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from demiurgic_jax.data.completer import Completer
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer, load_tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.asking import Asking, Progress, evaluate_async, require_isolation
from demiurgic_jax.evaluation.benchmark import Benchmark
from demiurgic_jax.evaluation.catalogue import default_data_folder, load_benchmarks
from demiurgic_jax.evaluation.contamination import Contamination, contamination
from demiurgic_jax.evaluation.published import DataFolder
from demiurgic_jax.evaluation.report import Evaluation, share, write_report
from demiurgic_jax.evaluation.results import Result, folder_of, open_folder, read_results, read_settings
from demiurgic_jax.evaluation.scores import benchmark_scores, compare_results, failures
from demiurgic_jax.sampling.client import HttpCompleter
from demiurgic_jax.sandbox.toolchains import why_missing
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder, prepare_jax

USER_ERROR, STOPPED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 2 (the user's mistake) or 130 (interrupted)."""
    options = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    console = Console(stderr=True)
    try:
        run(options, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return STOPPED
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    model = parser.add_argument_group("the model, one of")
    model.add_argument("--checkpoint", metavar="PATH", help="checkpoints of a run, one of them, or a GGUF or HF model")
    model.add_argument("--url", metavar="URL", help="an OpenAI-compatible API's base, http://HOST:PORT/v1")
    parser.add_argument("--model", default="", metavar="NAME", help="at --url (default: the first that it lists)")
    parser.add_argument("--api-key-env", default="", metavar="VARIABLE", help="environment variable with the key")
    parser.add_argument("--benchmarks", required=True, metavar="A,B", help="which ones, see above")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where results and report go")
    parser.add_argument("--data", type=Path, metavar="DIR", help="files of benchmarks (default: the cache folder)")
    parser.add_argument(
        "--mirror",
        default="",
        metavar="URL",
        help="fetch missing files from URL/NAME, not from where they were published",
    )
    parser.add_argument("--no-download", action="store_true", help="fetch nothing: a missing file is an error")
    parser.add_argument("--any-version", action="store_true", help="accept files of a benchmark that are not the known")

    asking = parser.add_argument_group("asking")
    asking.add_argument("--chat", action="store_true", help="ask in chat form (default: raw text that goes on)")
    asking.add_argument("--samples", type=int, default=1, metavar="N", help="answers to each problem (default: 1)")
    asking.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0, the default, is greedy")
    asking.add_argument("--top-p", type=float, default=1.0, metavar="P", help="(default: 1)")
    asking.add_argument(
        "--max-tokens", type=int, default=0, metavar="N", help="of an answer (default: the benchmark's)"
    )
    asking.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default: 0)")
    asking.add_argument("--limit", type=int, default=0, metavar="N", help="only each benchmark's first N problems")
    asking.add_argument("--concurrency", type=int, default=16, metavar="N", help="requests at once (default: 16)")
    asking.add_argument("--max-context", type=int, default=2048, metavar="N", help="of --checkpoint (default: 2048)")

    report = parser.add_argument_group("report")
    report.add_argument("--compare", type=Path, metavar="OTHER_DIR", help="another --out: compare with its model")
    report.add_argument("--shards", metavar="DIR", help="a shard set: which problems its documents contain")
    report.add_argument("--tokenizer", type=Path, metavar="DIR", help="of --shards (default: that of --checkpoint)")
    report.add_argument("--failures", type=int, default=10, metavar="N", help="shown of each benchmark (default: 10)")
    parser.add_argument(
        "--run-untrusted-code-without-isolation",
        action="store_true",
        help="run the model's code without bubblewrap: it can then do all that you can",
    )
    return parser


def run(options: argparse.Namespace, console: Console) -> None:
    """Asks, judges and reports. UserError for every mistake of the user's."""
    if (options.checkpoint is None) == (options.url is None):
        raise UserError("give the model as --checkpoint=PATH or as --url=URL, one of the two")
    for name in ("samples", "concurrency"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name}={getattr(options, name)} must be at least 1")
    if options.samples > 1 and options.temperature == 0:
        raise UserError(
            f"--samples={options.samples} at temperature 0 would be the same answer {options.samples} times: give a "
            "--temperature, say 0.8"
        )
    if options.shards and options.tokenizer is None and options.checkpoint is None:
        raise UserError("--shards needs the shards' tokenizer: give --tokenizer=DIR")
    require_isolation(options.run_untrusted_code_without_isolation)
    others = None if options.compare is None else read_settings(options.compare)
    with StageProgress("evaluate", console) as progress:
        benchmarks = _benchmarks(options, progress)
        asking = Asking(
            form="chat" if options.chat else "raw",
            samples=options.samples,
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_tokens,
            seed=options.seed,
            concurrency=options.concurrency,
        )
        settings = settings_of(options, asking, benchmarks)
        open_folder(options.out, settings)
        results, tokenizer = _results(options, asking, benchmarks, progress)
        scores = [benchmark_scores(benchmark.name, results[benchmark.name]) for benchmark in benchmarks]
        compared = {}
        if others is not None:
            for benchmark in benchmarks:
                theirs = read_results(folder_of(options.compare, benchmark.name) / "results.jsonl")
                if not theirs:
                    raise UserError(f"{options.compare} has no results of {benchmark.name}: evaluate it there first")
                mine = results[benchmark.name]
                compared[benchmark.name] = compare_results(benchmark.name, mine, list(theirs.values()))
        evaluation = Evaluation(
            settings=read_settings(options.out),
            scores=scores,
            failed={name: failures(each, options.failures) for name, each in results.items()},
            compared_with=f"{others['model']} ({options.compare})" if others is not None else "",
            compared=compared,
            contamination=_contamination(options, benchmarks, tokenizer, progress),
        )
        progress.doing("drawing the report")
        paths = write_report(options.out, evaluation)
    for each in scores:
        told = share(each.whole.pass_at[1]) if each.whole else "not run"
        print(f"{each.name}: pass@1 {told}")
        for language, reason in each.not_run.items():
            print(f"{each.name}: {language} not run, {reason}")
    for name, comparison in compared.items():
        print(f"{name}: {share(comparison.difference)} against {options.compare}, McNemar p={comparison.p_value:.4f}")
    print(next(path for path in paths if path.suffix == ".html"))


def settings_of(options: argparse.Namespace, asking: Asking, benchmarks: Sequence[Benchmark]) -> dict[str, object]:
    """Everything that another needs to repeat the evaluation; no key is in it."""
    told = asdict(asking)
    for operational in ("concurrency", "attempts", "wait_seconds"):
        del told[operational]
    return {
        "model": options.model or options.checkpoint or options.url,
        "from": options.checkpoint or options.url,
        "weights": weights_digest(options.checkpoint) if options.checkpoint else None,
        **told,
        "limit": options.limit,
        "max_context": options.max_context if options.checkpoint else None,
        "isolated": not options.run_untrusted_code_without_isolation,
        "benchmarks": {benchmark.name: benchmark.files for benchmark in benchmarks},
    }


def weights_digest(checkpoint: str) -> str:
    """SHA-256 (hex) that tells one model's weights from another's: a path may hold a later checkpoint tomorrow."""
    path = Path(checkpoint)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if _is_foreign(checkpoint):
        files = [(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in sorted(path.iterdir())]
        return hashlib.sha256(repr(files).encode()).hexdigest()
    from demiurgic_jax.checkpoints.checkpoint import open_card

    return hashlib.sha256(json.dumps(open_card(checkpoint).digests, sort_keys=True).encode()).hexdigest()


def _is_foreign(checkpoint: str) -> bool:
    """Whether it is somebody else's model rather than a checkpoint of ours."""
    return checkpoint.endswith(".gguf") or (Path(checkpoint) / "config.json").exists()


def _benchmarks(options: argparse.Namespace, progress: StageProgress) -> list[Benchmark]:
    data = DataFolder(
        options.data or default_data_folder(cache_folder()),
        any_version=options.any_version,
        download=not options.no_download,
        mirror=options.mirror,
        progress=lambda name, done, total: progress(done, total, "bytes", name),
        say=progress.say,
    )
    benchmarks = load_benchmarks(options.benchmarks, data)
    if options.limit:
        benchmarks = [
            Benchmark(each.name, each.problems[: options.limit], each.files, each.max_tokens) for each in benchmarks
        ]
    languages = dict.fromkeys(problem.language for each in benchmarks for problem in each.problems)
    for language in languages:
        if (reason := why_missing(language)) is not None:
            progress.say(f"{language} is not run: {reason}")
    return benchmarks


def _results(
    options: argparse.Namespace, asking: Asking, benchmarks: Sequence[Benchmark], progress: StageProgress
) -> tuple[dict[str, list[Result]], Tokenizer | None]:
    """The results of each benchmark, and the model's tokenizer where it is here."""

    async def all_of_them() -> dict[str, list[Result]]:
        results = {}
        async with AsyncExitStack() as at_end:
            if isinstance(completer, HttpCompleter):
                await at_end.enter_async_context(completer)
            for benchmark in benchmarks:

                def show(done: Progress, name: str = benchmark.name) -> None:
                    note = f"{name}: {done.answered:,} answered, {done.passed:,} passed"
                    progress(done.judged, done.total, "samples", note)

                results[benchmark.name] = await evaluate_async(
                    benchmark,
                    completer,
                    asking,
                    options.out,
                    progress=show,
                    run_untrusted_code_without_isolation=options.run_untrusted_code_without_isolation,
                )
        return results

    with opened_completer(options, progress) as completer:
        return asyncio.run(all_of_them()), getattr(completer, "tokenizer", None)


@contextmanager
def opened_completer(options: argparse.Namespace, progress: StageProgress) -> Iterator[Completer]:
    """The model at --url, or that of --checkpoint in an engine of its own."""
    if options.url:
        key = os.environ.get(options.api_key_env) if options.api_key_env else None
        if options.api_key_env and not key:
            raise UserError(f"the environment variable {options.api_key_env} is empty: put the API's key there")
        yield HttpCompleter(options.url, model=options.model or None, api_key=key)
        return
    # Imported here: JAX comes along, which a URL does not need.
    from demiurgic_jax.checkpoints.checkpoint import open_model
    from demiurgic_jax.interop.imported import import_model
    from demiurgic_jax.sampling.engine import Engine

    prepare_jax()
    progress.doing(f"opening {options.checkpoint}")
    model = import_model(options.checkpoint) if _is_foreign(options.checkpoint) else open_model(options.checkpoint)
    context = min(options.max_context, model.config.max_context)
    slots = options.concurrency
    with Engine(model.config, model.params, model.tokenizer, slots=slots, max_context=context) as engine:
        yield engine


def _contamination(
    options: argparse.Namespace, benchmarks: Sequence[Benchmark], tokenizer: Tokenizer | None, progress: StageProgress
) -> Contamination | None:
    if not options.shards:
        return None
    if options.tokenizer is not None:
        tokenizer = load_tokenizer(options.tokenizer)
    assert tokenizer is not None, "asked for before anything was done"
    return contamination(
        benchmarks,
        ShardSet(options.shards),
        tokenizer,
        where=str(options.shards),
        progress=lambda done, total: progress(done, total, "documents", "contamination"),
    )


if __name__ == "__main__":
    sys.exit(main())
