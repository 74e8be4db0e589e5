"""seeds: real source code, cut into functions, methods, classes and files.

What must not be learnt or sent is left out here, before a teacher sees anything: code of licences that the policy
refuses, near-duplicates, benchmark problems; secrets and personal data become placeholders.
"""

import heapq
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from demiurgic_jax.curation.decontamination import Benchmarks, benchmarks_digest
from demiurgic_jax.curation.languages import language_named
from demiurgic_jax.curation.licences import LicencePolicy
from demiurgic_jax.curation.near_duplicates import MinHashConfig
from demiurgic_jax.curation.seeds import (
    Kind,
    Seed,
    cut_seeds,
    is_heldout,
    redacted,
    without_benchmarks,
    without_near_duplicates,
    write_seeds,
)
from demiurgic_jax.curation.sources import CodeSource, SourceFile, read_source, source_digest, standard_library
from demiurgic_jax.errors import UserError
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.stage import Run, Stage
from experiments.workdir import canonical_hash, file_hash

PIECES: tuple[Kind, ...] = ("function", "method", "class")


def code_sources(run: Run) -> list[CodeSource]:
    """config.seeds.sources, or the standard library; config.seeds.licence is theirs where they have none of their
    own."""
    config = run.config.seeds
    if not config.sources:
        folder, licence = standard_library()
        return [CodeSource(folder=str(folder), licence=licence)]
    return described_sources(config.sources, config.licence)


def described_sources(described: Iterable[Any], licence: str) -> list[CodeSource]:
    """Sources as a config describes them; `licence` is that of those that name none."""
    given = [dict(each) if isinstance(each, Mapping) else each for each in described]
    sources = [CodeSource.of(each) for each in given]
    return [
        source if source.licence or not licence else CodeSource(**{**vars(source), "licence": licence})
        for source in sources
    ]


def _languages(run: Run) -> tuple[str, ...]:
    languages = tuple(run.config.seeds.languages)
    if not languages:
        raise UserError("config.seeds.languages is empty: name one at least, e.g. python")
    return tuple(language_named(name).name for name in languages)


def _policy(run: Run) -> LicencePolicy:
    config = run.config.seeds.licences
    return LicencePolicy(config.policy, tuple(config.allow), tuple(config.deny))


def min_hash(run: Run) -> MinHashConfig:
    """What counts as a near-duplicate, among seeds and among answers."""
    config = run.config.seeds.near_duplicates
    return MinHashConfig(ngram=config.ngram, bands=config.bands, rows=config.rows)


def _inputs(run: Run) -> Mapping[str, Any]:
    clones = cache_folder() / "repositories"
    sources = code_sources(run)
    _policy(run), min_hash(run)
    return {
        "seeds": run.config.seeds.to_dict(),
        "sources": [
            [vars(source), source_digest(source, languages=_languages(run), clones=clones)] for source in sources
        ],
        "benchmarks": benchmarks_digest(tuple(run.config.seeds.benchmarks)),
    }


def _files(run: Run, progress: StageProgress, counts: Counter[str]) -> list[SourceFile]:
    config = run.config.seeds

    def read() -> Iterator[SourceFile]:
        for source in code_sources(run):
            progress.doing(f"reading {source.name}")
            yield from read_source(
                source,
                languages=_languages(run),
                policy=_policy(run),
                max_bytes=config.max_file_bytes,
                counts=counts,
                clones=cache_folder() / "repositories",
            )

    # Spread over all of the code by hash, so that a limit does not mean the letters a to c.
    return heapq.nsmallest(config.max_files, read(), key=lambda file: canonical_hash([config.seed, file.path]))


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    config = run.config.seeds
    skipped: Counter[str] = Counter()
    files = _files(run, progress, skipped)
    if not files:
        raise UserError(_nothing(run, skipped))
    dropped: Counter[str] = Counter()
    placeholders: Counter[str] = Counter()

    def counted() -> Iterator[SourceFile]:
        for done, file in enumerate(files, start=1):
            yield file
            progress(done, len(files), "files")

    def cut() -> Iterator[Seed]:
        yield from cut_seeds(counted(), kinds=PIECES, min_lines=config.min_lines, max_lines=config.max_lines)
        # Whole files are text to learn from, of any length; questions are asked about pieces.
        yield from cut_seeds(files, kinds=("file",), min_lines=config.min_lines, max_lines=sys.maxsize)

    seeds: Iterable[Seed] = cut()
    if config.near_duplicates.remove:
        seeds = without_near_duplicates(seeds, min_hash(run), dropped)
    if config.benchmarks:
        seeds = without_benchmarks(seeds, Benchmarks.read(tuple(config.benchmarks)), dropped)
    elif config.sources:
        progress.say("config.seeds.benchmarks is empty: problems of benchmarks are not looked for in the code")
    kept = list(redacted(seeds, tuple(config.redact), dropped, placeholders))
    if not kept:
        raise UserError(
            f"no seed is left of {len(files)} files ({_listed(dropped) or 'no piece has the wanted length'}): give"
            f" more "
            "code, or change config.seeds.min_lines and max_lines"
        )
    path = run.file("seeds", "seeds.jsonl")
    write_seeds(path, kept)
    heldout = sum(is_heldout(seed.path, config.heldout_fraction) for seed in kept)
    return {
        "sha256": file_hash(path),
        "files": len(files),
        "seeds": len(kept),
        "heldout_seeds": heldout,
        "kinds": _sorted(Counter(seed.kind for seed in kept)),
        "languages": _sorted(Counter(seed.language for seed in kept)),
        "licences": _sorted(Counter(file.licence for file in files)),
        "files_left_out": _sorted(Counter({reason: n for reason, n in skipped.items() if reason != "read"})),
        "seeds_left_out": _sorted(dropped),
        "redacted": _sorted(placeholders),
    }


def _nothing(run: Run, skipped: Counter[str]) -> str:
    names = ", ".join(source.name for source in code_sources(run))
    languages = " or ".join(_languages(run))
    if any(reason.startswith("licence ") for reason in skipped):
        return (
            f"config.seeds.sources {names}: all code was left out ({_listed(skipped)}): name its licence with "
            "config.seeds.licence, e.g. MIT, or take more with config.seeds.licences.allow"
        )
    found = f" (left out: {_listed(skipped)})" if skipped else ""
    return f"config.seeds.sources {names}: no {languages} code is there{found}: give other sources or languages"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {reason}" for reason, number in counts.most_common())


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _summary(out: Mapping[str, Any]) -> str:
    left = Counter(out["files_left_out"]) + Counter(out["seeds_left_out"])
    return (
        f"{out['seeds']:,} seeds from {out['files']:,} files, {out['heldout_seeds']:,} of them held out"
        + (f"; left out: {_listed(left)}" if left else "")
        + (f"; redacted: {_listed(Counter(out['redacted']))}" if out["redacted"] else "")
    )


SEEDS = Stage(name="seeds", needs=(), inputs=_inputs, execute=_execute, summary=_summary)
