"""Runs side by side: where each stands, what it cost, what differs."""

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from demiurgic_jax.errors import UserError
from demiurgic_jax.training.attempts import ATTEMPTS, machine_seconds, read_attempts
from demiurgic_jax.training.metrics import read_metrics

# A single step's loss and speed say little: means and medians of so many.
LAST_ROWS = 20
_COLORS = ("#1f4e8c", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0e7490", "#be185d", "#525252")


def gather(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of every run, and the fields in which their configs differ; draws the plot that is asked for."""
    rows = {path: read_run(path) for path in options.workdirs}
    configs = [_config(path) for path in options.workdirs]
    if options.plot:
        plot(rows, options.metrics.split(","), options.plot)
    figures: dict[str, Any] = {
        "runs": [run_figures(path, rows[path], config) for path, config in zip(rows, configs, strict=True)],
        "differences": differences(configs),
    }
    return figures | ({"plot": str(options.plot)} if options.plot else {})


def read_run(path: Path) -> list[dict[str, Any]]:
    """The metrics of a run. UserError when there are none yet."""
    rows = read_metrics(_train_folder(path) / "metrics.jsonl")
    if not rows:
        raise UserError(f"{path} holds no train/metrics.jsonl: give the --workdir of a run that has begun to train")
    return rows


def run_figures(path: Path, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> dict[str, Any]:
    """What one run has to say; None for what it did not measure."""
    trained = [row for row in rows if "loss" in row]
    heldout = [row for row in rows if "heldout/cross_entropy" in row]
    last: Mapping[str, Any] = trained[-1] if trained else {}
    attempts = read_attempts(_train_folder(path) / ATTEMPTS)
    recent = trained[-LAST_ROWS:]
    best = min(heldout, key=lambda row: row["heldout/cross_entropy"], default={})
    return {
        "workdir": str(path),
        "config": config.get("name"),
        "step": rows[-1]["step"],
        "steps": config.get("config", {}).get("train", {}).get("steps"),
        "loss": fmean(row["loss"] for row in recent) if recent else None,
        "heldout_cross_entropy_first": heldout[0]["heldout/cross_entropy"] if heldout else None,
        "heldout": _parts(heldout[-1]) if heldout else {},
        "best_heldout_cross_entropy": best.get("heldout/cross_entropy"),
        "best_heldout_step": best.get("step"),
        "learning_rate": last.get("learning_rate"),
        "tokens_per_second": median(row["tokens_per_second"] for row in recent) if recent else None,
        "mfu": _median(recent, "mfu"),
        "data_wait_share": _median(recent, "data_wait_share"),
        "goodput": last.get("goodput"),
        "device_memory_peak_bytes": last.get("device_memory_peak_bytes"),
        "host_memory_peak_bytes": last.get("host_memory_peak_bytes"),
        "attempts": len(attempts) or None,
        "machine_seconds": machine_seconds(attempts, rows[-1].get("unix_time")) if attempts else None,
        "dollars": last.get("dollars"),
        "eta_seconds": last.get("eta_seconds"),
        "last_written": rows[-1].get("unix_time"),
    }


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted fields of which not all configs have the same value, with each one's (None where it is missing)."""
    flat = [dict(_leaves(config.get("config", {}))) for config in configs]
    names = sorted(set().union(*flat))
    values = {name: [each.get(name) for each in flat] for name in names}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}


def plot(runs: Mapping[Path, Sequence[Mapping[str, Any]]], metrics: Sequence[str], path: Path) -> None:
    """Each metric over steps, a colour for each run. UserError lists what there is to draw."""
    from matplotlib.figure import Figure

    known = sorted({name for rows in runs.values() for row in rows for name in row} - {"step"})
    for metric in metrics:
        if metric not in known:
            raise UserError(f"--metrics={metric}: the runs have no such metric, but {', '.join(known)}")
    figure = Figure(figsize=(8, 1 + 3 * len(metrics)), layout="constrained")
    all_axes = figure.subplots(len(metrics), squeeze=False, sharex=True)[:, 0]
    for axes, metric in zip(all_axes, metrics, strict=True):
        for number, (name, rows) in enumerate(runs.items()):
            points = [(row["step"], row[metric]) for row in rows if metric in row]
            # Figures of every step are a line, rarer ones are points on a line.
            marker = "o-" if len(points) < len(rows) // 2 else "-"
            axes.plot(*zip(*points, strict=True), marker, label=str(name), color=_COLORS[number % 8], lw=1, ms=3)
        axes.set_ylabel(metric)
        axes.grid(alpha=0.25)
    all_axes[-1].set_xlabel("step")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot={path} cannot be written ({error}): give a file such as losses.png") from error


def render(figures: Mapping[str, Any], console: Console) -> None:
    """The figures as tables, a column for each run."""
    runs = figures["runs"]
    table = Table("", *(run["workdir"] for run in runs))
    for label, cells in _lines(runs):
        if any(cell != "–" for cell in cells):
            table.add_row(label, *cells)
    console.print(table)
    names = list(dict.fromkeys(name for run in runs for name in run["heldout"]))
    if names:
        console.print("\nHeld-out: cross-entropy, perplexity, accuracy (tokens)")
        table = Table("documents", *(run["workdir"] for run in runs))
        for name in names:
            table.add_row(name or "all", *(_heldout_cell(run["heldout"].get(name)) for run in runs))
        console.print(table)
    if figures["differences"]:
        console.print("\nWhat differs in their configs")
        table = Table("field", *(run["workdir"] for run in runs))
        for name, values in figures["differences"].items():
            table.add_row(name, *(str(value) for value in values))
        console.print(table)
    if "plot" in figures:
        console.print(f"drawn: {figures['plot']}")


def _lines(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    def line(label: str, show: Any, *fields: str) -> tuple[str, list[str]]:
        values = [[run[field] for field in fields] for run in runs]
        return label, ["–" if None in each else show(*each) for each in values]

    return [
        line("config", str, "config"),
        line("step", lambda step, steps: f"{step:,} of {steps:,}", "step", "steps"),
        line(f"training loss (mean of {LAST_ROWS})", "{:.4f}".format, "loss"),
        line("held-out cross-entropy at first", "{:.4f}".format, "heldout_cross_entropy_first"),
        line("best held-out", "{:.4f} at step {:,}".format, "best_heldout_cross_entropy", "best_heldout_step"),
        line("learning rate", "{:.3g}".format, "learning_rate"),
        line(f"tokens/s (median of {LAST_ROWS})", "{:,.0f}".format, "tokens_per_second"),
        line("MFU", "{:.1%}".format, "mfu"),
        line("waiting for data, of a step", "{:.2%}".format, "data_wait_share"),
        line("goodput", "{:.1%}".format, "goodput"),
        line("device memory, peak", lambda size: f"{size / 1e9:,.2f} GB", "device_memory_peak_bytes"),
        line("host memory, peak", lambda size: f"{size / 1e9:,.2f} GB", "host_memory_peak_bytes"),
        line("started", lambda count: f"{count} times" if count != 1 else "once", "attempts"),
        line("machine time", _duration, "machine_seconds"),
        line("dollars", "{:,.2f}".format, "dollars"),
        line("still to go", _duration, "eta_seconds"),
    ]


def _heldout_cell(values: Mapping[str, float] | None) -> str:
    if values is None:
        return "–"
    rest = f", {values['perplexity']:,.2f}" if "perplexity" in values else ""
    return f"{values['cross_entropy']:.4f}{rest}, {values['accuracy']:.1%} ({values['loss_tokens']:,.0f})"


def _parts(row: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """`heldout/PART/FIELD` as part → field → value; the part of `heldout/FIELD` is ''."""
    parts: dict[str, dict[str, float]] = {}
    for name, value in row.items():
        if name.startswith("heldout/"):
            part, _, field = name.removeprefix("heldout/").rpartition("/")
            parts.setdefault(part, {})[field] = value
    return parts


def _train_folder(path: Path) -> Path:
    return path / "train" if (path / "train").is_dir() else path


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _leaves(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in config.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found


def _median(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if name in row]
    return median(values) if values else None


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
