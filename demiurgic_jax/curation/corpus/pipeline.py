"""The corpus pipeline: from sources to documents, in stages whose tasks run anywhere and are resumed one by one.

    read        files of the sources, screened; quality; marks of exact duplicates        → read/PART/RANK
    exact       which documents are exact duplicates of another                           → duplicates/PART
    sign        without those, signed                                                     → signed/PART
    pairs       documents that share a band, a task for each band                         → pairs
    clusters    near-duplicates of which one is kept                                      → clusters
    clean       without those; syntax; benchmark problems; secrets; order in repositories → documents/SPLIT/PART

A repository falls whole to one part, so its files meet again whoever read them. What is kept follows from the sources
and the configuration, and where it lies from the number of parts too, but not from where tasks ran or how often they
were killed.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demiurgic_jax.curation.corpus.cleaning import DropBenchmarks, DropFaulty, DropPoor, Redact
from demiurgic_jax.curation.corpus.exact import DropExact, FindExact, MarkExact
from demiurgic_jax.curation.corpus.execution import Execution, Progress, run_stage
from demiurgic_jax.curation.corpus.near import DropNear, FindNear, SignNear, find_pairs
from demiurgic_jax.curation.corpus.ordering import Order, OrderName
from demiurgic_jax.curation.corpus.parts import ReadPart, ReadRank, write_parts, write_ranks, write_splits
from demiurgic_jax.curation.corpus.reading import ReadCode
from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.curation.licences import LicencePolicy
from demiurgic_jax.curation.near_duplicates import MinHashConfig
from demiurgic_jax.curation.recognition import require_known
from demiurgic_jax.curation.secrets import USUAL_KINDS
from demiurgic_jax.curation.sources import CodeSource
from demiurgic_jax.errors import UserError

SPLITS = ("train", "heldout")


@dataclass(frozen=True)
class CorpusConfig:
    """`parts` are the tasks of most stages, and what one of them holds in memory at a time is a part of the corpus.
    `joined` characters make a document of several files of a repository; 0: each is one. `heldout` is the share of the
    repositories that is kept out of training."""

    sources: Sequence[CodeSource]
    languages: Sequence[str] = tuple(LANGUAGES)
    policy: LicencePolicy = field(default_factory=LicencePolicy)
    max_bytes: int = 1 << 20
    near: MinHashConfig = field(default_factory=MinHashConfig)
    benchmarks: Sequence[str] = ()
    redact: Sequence[str] = USUAL_KINDS
    order: OrderName = "imports"
    joined: int = 0
    heldout: float = 0.01
    parts: int = 8

    def __post_init__(self) -> None:
        require_known(self.languages)
        if not self.sources:
            raise UserError("a corpus has no sources: name one at least")
        if self.parts < 1:
            raise UserError(f"a corpus of {self.parts} parts is none: give 1 at least")
        if self.order not in ("imports", "path"):
            raise UserError(f"order {self.order!r} is unknown: choose imports or path")
        if not 0 <= self.heldout < 1:
            raise UserError(f"{self.heldout} of the repositories cannot be held out: give a share from 0 to below 1")


@dataclass(frozen=True)
class CorpusStage:
    """One run of datatrove's: `blocks` one after the other in each of `tasks` tasks; they read what `reads` says and
    write what `writes` says, folders of the corpus'."""

    name: str
    tasks: int
    blocks: Sequence[Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def corpus_stages(config: CorpusConfig, folder: Path, clones: Path | None = None) -> list[CorpusStage]:
    """The stages, in order."""
    samples, parts = folder / "dropped", config.parts
    read = ReadCode(config.sources, config.languages, config.policy, config.max_bytes, clones, samples)
    marks, duplicates, signed = folder / "marks", folder / "duplicates", folder / "signed"
    signatures, pairs, clusters = folder / "signatures", folder / "pairs", folder / "clusters"
    clean: list[Any] = [ReadRank(signed), DropNear(clusters, samples), DropFaulty(samples)]
    if config.benchmarks:
        clean.append(DropBenchmarks(config.benchmarks, samples))
    if config.redact:
        clean.append(Redact(config.redact, samples))
    clean += [Order(config.order, config.joined, config.heldout), write_splits(folder / "documents")]
    return [
        CorpusStage(
            "read",
            parts,
            [read, DropPoor(samples), MarkExact(marks, parts, samples), write_parts(folder / "read")],
            (),
            ("read", "marks"),
        ),
        CorpusStage("exact", 1, [FindExact(marks, duplicates, parts)], ("marks",), ("duplicates",)),
        CorpusStage(
            "sign",
            parts,
            [
                ReadPart(folder / "read"),
                DropExact(duplicates, samples),
                SignNear(signatures, config.near),
                write_ranks(signed),
            ],
            ("read", "duplicates"),
            ("signed", "signatures"),
        ),
        CorpusStage(
            "pairs", config.near.bands, [find_pairs(signatures, pairs, config.near)], ("signatures",), ("pairs",)
        ),
        CorpusStage("clusters", 1, [FindNear(signatures, pairs, clusters)], ("signatures", "pairs"), ("clusters",)),
        CorpusStage("clean", parts, clean, ("signed", "clusters"), ("documents",)),
    ]


def run_corpus(
    config: CorpusConfig,
    folder: Path,
    execution: Execution,
    progress: Progress,
    *,
    clones: Path | None = None,
    cores: int | None = None,
) -> None:
    """Makes `folder`/documents, going on where a killed run was; what only stages needed is removed at the end. The
    caller sees to it that `folder` was begun with the same `config`."""
    stages = corpus_stages(config, folder, clones)
    for stage in stages:
        run_stage(
            stage.name,
            stage.blocks,
            stage.tasks,
            folder / "logs" / stage.name,
            execution,
            lambda done, total, what, name=stage.name: progress(done, total, f"{what} of {name}"),  # type: ignore[misc]
            cores or os.cpu_count() or 1,
        )
    (folder / "documents").mkdir(exist_ok=True)
    for name in {name for stage in stages for name in stage.reads}:
        shutil.rmtree(folder / name, ignore_errors=True)
