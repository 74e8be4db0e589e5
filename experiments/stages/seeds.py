"""seeds: real source code, cut into functions, methods, classes and files."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from demiurgic_jax.curation.seeds import Kind, cut_seeds, is_heldout, write_seeds
from demiurgic_jax.curation.sources import SourceFile, read_folder, standard_library
from demiurgic_jax.errors import UserError
from experiments.progress import StageProgress
from experiments.stages.stage import Run, Stage
from experiments.workdir import canonical_hash, file_hash


def source_folder(run: Run) -> tuple[Path, str]:
    """The folder of source code and its licence: config.seeds.folder, or the standard library."""
    config = run.config.seeds
    if not config.folder:
        return standard_library()
    if not config.licence:
        raise UserError("config.seeds.licence is empty: name the licence of the code in config.seeds.folder, e.g. MIT")
    return Path(config.folder).expanduser(), config.licence


def _files(run: Run) -> list[SourceFile]:
    folder, licence = source_folder(run)
    files = read_folder(folder, licence=licence, max_bytes=run.config.seeds.max_file_bytes)
    # Spread over the whole folder by hash, so that a limit does not mean the letters a to c.
    chosen = sorted(files, key=lambda file: canonical_hash([run.config.seeds.seed, file.path]))
    return chosen[: run.config.seeds.max_files]


def _inputs(run: Run) -> Mapping[str, Any]:
    _, licence = source_folder(run)
    content = [[file.path, file.sha256] for file in _files(run)]
    return {"seeds": run.config.seeds.to_dict(), "licence": licence, "content": canonical_hash(content)}


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    config = run.config.seeds
    files = _files(run)

    def counted() -> Iterator[SourceFile]:
        for done, file in enumerate(files, start=1):
            yield file
            progress(done, len(files), "files")

    pieces: tuple[Kind, ...] = ("function", "method", "class")
    seeds = list(cut_seeds(counted(), kinds=pieces, min_lines=config.min_lines, max_lines=config.max_lines))
    # Whole files are text to learn from, of any length; questions are asked about pieces.
    seeds += cut_seeds(files, kinds=("file",), min_lines=config.min_lines, max_lines=sys.maxsize)
    if not seeds:
        folder, _ = source_folder(run)
        raise UserError(f"config.seeds.folder {folder} holds no Python code to cut seeds from: give another folder")
    path = run.file("seeds", "seeds.jsonl")
    write_seeds(path, seeds)
    heldout = sum(is_heldout(seed.path, config.heldout_fraction) for seed in seeds)
    return {
        "sha256": file_hash(path),
        "files": len(files),
        "seeds": len(seeds),
        "heldout_seeds": heldout,
        "kinds": dict(sorted(Counter(seed.kind for seed in seeds).items())),
    }


SEEDS = Stage(
    name="seeds",
    needs=(),
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: (
        f"{out['seeds']:,} seeds from {out['files']:,} files, {out['heldout_seeds']:,} of them held out"
    ),
)
