"""What shard sets hold."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from demiurgic_jax.data.packing import plan_rows
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.errors import UserError

BAR_WIDTH = 40


def gather(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of every shard set."""
    sets = [each for folder in options.folders for each in shard_folders(folder)]
    return {"shard_sets": [set_figures(folder, options.context, options.verify) for folder in sets]}


def shard_folders(folder: str) -> list[str]:
    """The folder itself, or the shard sets of a run's. UserError when there are none."""
    inside = Path(folder) / "shards"
    if "://" in folder or not inside.is_dir():
        return [folder]
    found = [str(path.parent) for path in sorted(inside.glob("*/manifest.json"))]
    if not found:
        raise UserError(f"{inside} holds no finished shard set: run the stage shards first")
    return found


def set_figures(folder: str, context: int | None, verify: bool) -> dict[str, Any]:
    """The manifest's counts, the lengths of the documents, and with `context` how they fill rows."""
    shard_set = ShardSet(folder)
    if verify:
        shard_set.verify()
    manifest, lengths = shard_set.manifest, shard_set.lengths
    figures: dict[str, Any] = {"folder": folder, "fingerprint": shard_set.fingerprint, "verified": verify}
    for name in ("documents", "tokens", "learnt_tokens", "languages", "tasks", "licences", "soft_target_cap"):
        figures[name] = manifest[name]
    for name in ("soft_target_positions", "tokenizer_fingerprint", "vocab_size", "token_dtype", "provenance"):
        figures[name] = manifest[name]
    figures["soft_target_samples"] = manifest.get("soft_target_samples", 0)  # since format 2
    figures["shards"] = len(manifest["shards"])
    figures["bytes"] = sum(entry["bytes"] for entry in manifest["shards"])
    quantiles = np.quantile(lengths, (0, 0.25, 0.5, 0.75, 1)).round().astype(int).tolist()
    figures["length_quantiles"] = dict(zip(("least", "25 %", "median", "75 %", "most"), quantiles, strict=True))
    figures["length_histogram"] = length_histogram(lengths)
    if context:
        plan = plan_rows(lengths, context)
        figures["packing"] = {"context": context, "rows": plan.num_rows, "filled": plan.efficiency}
    return figures


def length_histogram(lengths: np.ndarray) -> list[dict[str, int]]:
    """Documents of `least` to `most` tokens, between powers of two."""
    buckets = np.ceil(np.log2(np.maximum(lengths, 1))).astype(int)
    counts = np.bincount(buckets)
    filled = np.flatnonzero(counts)
    return [
        {"least": (1 << bucket) // 2 + 1, "most": 1 << bucket, "documents": int(counts[bucket])}
        for bucket in range(int(filled[0]), int(filled[-1]) + 1)
    ]


def render(figures: Mapping[str, Any], console: Console) -> None:
    for each in figures["shard_sets"]:
        _render_set(each, console)


def _render_set(figures: Mapping[str, Any], console: Console) -> None:
    console.print(figures["folder"], markup=False)
    table = Table(show_header=False)
    documents, tokens = figures["documents"], figures["tokens"]
    table.add_row("documents", f"{documents:,}")
    table.add_row("tokens", f"{tokens:,} ({tokens / documents:,.1f} a document)")
    table.add_row("trained on", f"{figures['learnt_tokens']:,} ({figures['learnt_tokens'] / tokens:.1%})")
    drawn = f"samples, K = {figures['soft_target_samples']}: " if figures["soft_target_samples"] else ""
    share = f"{figures['soft_target_positions'] / tokens:.1%} of the tokens"
    soft = f"{drawn}up to {figures['soft_target_cap']} entries on {share}"
    table.add_row("soft targets", soft if figures["soft_target_cap"] else "none")
    for name in ("languages", "tasks", "licences"):
        table.add_row(f"{name}, documents", _counts(figures[name]))
    table.add_row("shards", f"{figures['shards']}, {figures['bytes'] / 1e6:,.1f} MB")
    table.add_row("tokenizer", f"{figures['tokenizer_fingerprint']} ({figures['vocab_size']:,} ids)")
    table.add_row("fingerprint", figures["fingerprint"] + (", every byte verified" if figures["verified"] else ""))
    if packing := figures.get("packing"):
        table.add_row(f"rows of {packing['context']:,}", f"{packing['rows']:,}, {packing['filled']:.1%} filled")
    table.add_row("provenance", json.dumps(figures["provenance"], indent=1, ensure_ascii=False))
    console.print(table)
    _render_histogram(figures, console)


def _render_histogram(figures: Mapping[str, Any], console: Console) -> None:
    quantiles = ", ".join(f"{name} {value:,}" for name, value in figures["length_quantiles"].items())
    console.print(f"tokens of a document: {quantiles}", markup=False)
    most = max(bucket["documents"] for bucket in figures["length_histogram"])
    for bucket in figures["length_histogram"]:
        bar = "█" * -(-bucket["documents"] * BAR_WIDTH // most)
        console.print(f"{bucket['least']:>9,} … {bucket['most']:<9,} {bar} {bucket['documents']:,}", markup=False)


def _counts(counts: Mapping[str, int]) -> str:
    by_size = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {count:,}" for name, count in by_size)
