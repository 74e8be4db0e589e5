"""A batch as text, with its masks."""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.text import Text

from demiurgic_jax.checkpoints.checkpoint import open_card
from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer, load_tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.training.phases import placed
from demiurgic_jax.training.spikes import SkippedData
from experiments.stages.shards import mixture
from experiments.stages.stage import Run
from experiments.training_phases import phase_configs
from experiments.workdir import Workdir

STYLES = {"trained": "green", "prompt": "cyan dim"}
PADDING_STYLE = "bright_black"


@dataclass(frozen=True)
class Source:
    """Where a batch comes from, `data_step` of it, and what turns it into text."""

    loader: Loader
    tokenizer: Tokenizer
    data_step: int


def gather(options: argparse.Namespace) -> dict[str, Any]:
    """The rows of a step's batch: documents, each in spans of one kind."""
    if options.step < 1:
        raise UserError(f"--step={options.step}: the first step is 1, as in metrics.jsonl")
    is_run = (options.path / "config.json").is_file()
    source = of_run(options.path, options.step) if is_run else of_shards(options)
    batch, keys = source.loader.batch(source.data_step), source.loader.rows_in(source.data_step)
    size = len(batch.tokens)
    if options.row is not None and not 0 <= options.row < size:
        raise UserError(f"--row={options.row}: the batch has the rows 0 to {size - 1}")
    rows = range(size) if options.row is None else [options.row]
    return {
        "path": str(options.path),
        "step": options.step,
        "rows": [row_figures(batch, row, keys[row], source.tokenizer) for row in rows],
    }


def of_run(workdir: Path, step: int) -> Source:
    """The batch that a run makes `step` with, by its own config: its phase, mixture and FIM, without skipped data."""
    written = json.loads((workdir / "config.json").read_text())
    config = ConfigDict(written["config"])
    # The ladder's figures hang on the size, which the run's checkpoints know.
    model = open_card(workdir / "train" / "checkpoints").model if config.init.ladder else None
    phases = phase_configs(config, model)
    places = placed([phase.name for phase in phases], [phase.train.steps for phase in phases])
    if step > places[-1].run_steps:
        raise UserError(f"--step={step}: the run has {places[-1].run_steps} steps")
    index = max(number for number, place in enumerate(places) if place.start < step)
    train, place = phases[index].train, places[index]
    tokenizer = load_tokenizer(workdir / "tokenizer" / "files")
    loader = Loader(
        mixture(Run(written["name"], config, Workdir(workdir, written["name"], config)), train.mixture),
        batch_size=train.batch_size,
        row_length=train.context,
        seed=train.seed,
        soft_targets=train.soft_targets,
        packing=train.packing,
        fim=train.fim,
        tokenizer=tokenizer,
    )
    skipped = SkippedData(workdir / "train", place.name)
    return Source(loader, tokenizer, skipped.data_step(step - 1 - place.start))


def of_shards(options: argparse.Namespace) -> Source:
    """Batches of a shard set by itself."""
    shard_set = ShardSet(options.path)
    if options.tokenizer is None:
        raise UserError(
            f"{options.path} is a shard set and has no tokenizer inside: give its folder as --tokenizer=DIR"
        )
    tokenizer = load_tokenizer(options.tokenizer)
    shard_set.require_tokenizer(tokenizer)
    loader = Loader(shard_set, batch_size=options.batch_size, row_length=options.context, seed=options.seed)
    return Source(loader, tokenizer, options.step - 1)


def row_figures(batch: Batch, row: int, keys: list[str], tokenizer: Tokenizer) -> dict[str, Any]:
    """One row: its documents with their spans, and the number of tokens of each kind."""
    segments = batch.segment_ids[row]
    documents: list[dict[str, Any]] = []
    for number, key in enumerate(keys, start=1):
        columns = np.flatnonzero(segments == number)
        spans = list(_spans(batch.tokens[row, columns], _trained(batch.loss_weights[row, columns]), tokenizer))
        documents.append({"key": key, "tokens": len(columns), "spans": spans})
    spans = [span for document in documents for span in document["spans"]]
    teacher = batch.teacher_logprobs
    return {
        "row": row,
        "tokens": {kind: sum(span["tokens"] for span in spans if span["kind"] == kind) for kind in STYLES}
        | {"padding": int(np.count_nonzero(segments == 0))},
        "teacher_positions": 0 if teacher is None else int(np.count_nonzero(np.isfinite(teacher[row, :, 0]))),
        "documents": documents,
    }


def _trained(loss_weights: np.ndarray) -> np.ndarray:
    """Which tokens of a document are learnt: weights stand where a token is predicted, one place before it."""
    return np.concatenate([[False], loss_weights[:-1] > 0])


def _spans(tokens: np.ndarray, trained: np.ndarray, tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    bounds = [0, *(np.flatnonzero(np.diff(trained)) + 1).tolist(), len(tokens)]
    for start, stop in pairwise(bounds):
        # By bytes: a decoder may drop the blank that a span begins with.
        content = b"".join(tokenizer.token_bytes(token) for token in tokens[start:stop].tolist())
        kind = "trained" if trained[start] else "prompt"
        yield {"kind": kind, "tokens": stop - start, "text": content.decode(errors="replace")}


def render(figures: Mapping[str, Any], console: Console) -> None:
    """Text in colours; without them, what is trained on stands in «…»."""
    plain = console.no_color or console.color_system is None
    legend = Text(f"{figures['path']}, step {figures['step']}: ")
    for kind, style in STYLES.items():
        legend.append("«trained» " if plain and kind == "trained" else f"{kind} ", "" if plain else style)
    console.print(legend)
    for row in figures["rows"]:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in row["tokens"].items())
        teacher = f", {row['teacher_positions']:,} with a teacher" if row["teacher_positions"] else ""
        console.rule(f"row {row['row']}, {len(row['documents'])} document(s): {counts}{teacher}", characters="═")
        for number, document in enumerate(row["documents"], start=1):
            console.rule(f"document {number}: {document['key']}, {document['tokens']:,} tokens", align="left")
            console.print(_document_text(document, plain), soft_wrap=True)
        if padding := row["tokens"]["padding"]:
            console.print(Text(f"[{padding:,} padding]", "" if plain else PADDING_STYLE))


def _document_text(document: Mapping[str, Any], plain: bool) -> Text:
    text = Text()
    for span in document["spans"]:
        marked = f"«{span['text']}»" if plain and span["kind"] == "trained" else span["text"]
        text.append(marked, "" if plain else STYLES[span["kind"]])
    return text
