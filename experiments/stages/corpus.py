"""corpus: source code of config.corpus.sources, curated for training from scratch. It is not there for runs without.

WORKDIR/corpus/documents/train, heldout    what is left, by part (demiurgic_jax/curation/corpus/pipeline.py)
WORKDIR/corpus/dropped                     samples of what is not
WORKDIR/corpus/DATA_CARD.md, .html         the funnel by stage, language and reason, with plots
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from demiurgic_jax.curation.decontamination import benchmarks_digest
from demiurgic_jax.curation.licences import LicencePolicy
from demiurgic_jax.curation.near_duplicates import MinHashConfig
from demiurgic_jax.curation.recognition import require_known
from demiurgic_jax.curation.sources import CodeSource, source_digest
from demiurgic_jax.errors import UserError
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.seeds import described_sources
from experiments.stages.stage import Run, Stage
from experiments.workdir import file_hash


def has_corpus(run: Run) -> bool:
    return bool(run.config.corpus.sources)


def documents_folder(run: Run, split: str) -> Path:
    """Where the finished stage left the documents of `split`."""
    return run.file("corpus", "documents") / split


def pairs(given: Any, where: str) -> dict[str, Any]:
    """A config's pairs, ((name, value), …), as a mapping."""
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in given):
        raise UserError(f"config.{where}={given!r} holds no pairs: give (('python', 2.0), ('go', 1.0))")
    return dict(given)


def _sources(run: Run) -> list[CodeSource]:
    return described_sources(run.config.corpus.sources, run.config.corpus.licence)


def _clones() -> Path:
    return cache_folder() / "repositories"


def _corpus_config(run: Run) -> Any:
    from demiurgic_jax.curation.corpus.pipeline import CorpusConfig

    config = run.config.corpus
    near = config.near_duplicates
    return CorpusConfig(
        sources=_sources(run),
        languages=tuple(config.languages),
        policy=LicencePolicy(config.licences.policy, tuple(config.licences.allow), tuple(config.licences.deny)),
        max_bytes=config.max_file_bytes,
        near=MinHashConfig(ngram=near.ngram, bands=near.bands, rows=near.rows),
        benchmarks=tuple(config.benchmarks),
        redact=tuple(config.redact),
        order=config.order,
        joined=config.joined_characters,
        heldout=config.heldout_fraction,
        parts=config.parts,
    )


def _execution(run: Run) -> Any:
    from demiurgic_jax.curation.corpus.execution import Execution

    executor = run.config.corpus.executor
    return Execution(executor.kind, executor.workers, pairs(executor.options, "corpus.executor.options"))


def _check(run: Run) -> None:
    _corpus_config(run), _execution(run)
    require_known(pairs(run.config.corpus.language_weights, "corpus.language_weights") or ("python",))


def _inputs(run: Run) -> Mapping[str, Any]:
    fields = run.config.corpus.to_dict()
    for name in ("executor", "language_weights", "sample_megabytes"):  # how it runs, and what comes after it
        fields.pop(name)
    languages = tuple(run.config.corpus.languages)
    return {
        "corpus": fields,
        "sources": [source_digest(source, languages=languages, clones=_clones()) for source in _sources(run)],
        "benchmarks": benchmarks_digest(tuple(run.config.corpus.benchmarks)),
    }


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    from demiurgic_jax.curation.corpus.card import write_card
    from demiurgic_jax.curation.corpus.funnel import read_funnel
    from demiurgic_jax.curation.corpus.pipeline import SPLITS, run_corpus

    if not run.config.corpus.benchmarks:
        progress.say("config.corpus.benchmarks is empty: problems of benchmarks are not looked for in the code")
    folder = run.workdir.folder("corpus")
    config = _corpus_config(run)
    run_corpus(config, folder, _execution(run), progress, clones=_clones(), cores=os.cpu_count())
    funnel = read_funnel(folder)
    if not any(_files(folder)):
        reasons = ", ".join(f"{amount.documents:,} {reason}" for _, reason, amount in funnel.reasons()[:8])
        raise UserError(f"config.corpus.sources: nothing is left ({reasons or 'no code is there'}): give other sources")
    write_card(run.name, funnel, folder)
    return {
        **funnel.as_json(),
        "documents": {split: _digest(folder / "documents" / split) for split in SPLITS},
        "measured": {"cpu_seconds": dict(funnel.cpu_seconds), "seconds": funnel.seconds},
    }


def _files(folder: Path) -> Iterator[Path]:
    return (folder / "documents").rglob("*.jsonl.zst")


def _digest(folder: Path) -> dict[str, str]:
    return {path.name: file_hash(path) for path in sorted(folder.glob("*.jsonl.zst"))}


def _summary(out: Mapping[str, Any]) -> str:
    kept = sum(each["documents"] for each in out["kept"].values())
    size = sum(each["size"] for each in out["kept"].values())
    read = sum(each["documents"] for each in out["read"].values())
    return f"{kept:,} of {read:,} files, {size / 1e6:,.1f} MB, {len(out['kept'])} languages: corpus/DATA_CARD.md"


CORPUS = Stage(
    name="corpus",
    needs=(),
    applies=has_corpus,
    check=_check,
    inputs=_inputs,
    execute=_execute,
    summary=_summary,
)
