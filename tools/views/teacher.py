"""What a run's teacher was asked, what that cost, and what the rest will."""

import argparse
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.table import Table

from demiurgic_jax.distillation.spending import spending


def gather(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of the run's ledger, or of the ledger that is given itself."""
    path = options.workdir if options.workdir.suffix == ".sqlite" else options.workdir / "ledger.sqlite"
    return {"ledger": str(path)} | spending(path)


def render(figures: Mapping[str, Any], console: Console) -> None:
    """The figures as a table, a line for each task, model and language."""
    console.print(figures["ledger"], markup=False)
    table = Table(
        "", "answered", "failed", "refused", "in flight", "attempts", "tokens in", "out", "dollars", "accepted"
    )
    for head in ("task", "model", "language"):
        for name, row in figures[f"by_{head}"].items():
            table.add_row(f"{head} {name}", *_cells(row))
        table.add_section()
    table.add_row("all", *_cells(figures["total"]))
    console.print(table)
    total, rate = figures["total"], figures["answers_per_second"]
    share = f" of {figures['wanted']:,} wanted, {figures['left']:,} to go" if figures["wanted"] else ""
    speed = f", {rate * 60:,.1f} a minute" if rate else ""
    eta = figures["eta_seconds"]
    time_left = f", {timedelta(seconds=round(eta))} left" if eta and figures["left"] else ""
    console.print(f"{total['settled']:,} answers{share}{speed}{time_left}", markup=False)
    if figures["projected_dollars"] is not None:
        console.print(f"${total['dollars']:,.4f} spent, ${figures['projected_dollars']:,.4f} at the end, as it looks")
    for name, counts in (("failures", figures["failures"]), ("rejected answers", figures["rejections"])):
        if counts:
            console.print(
                f"{name}: " + ", ".join(f"{reason} {count:,}" for reason, count in counts.items()), markup=False
            )
    if total["lost_attempts"]:
        console.print(f"{total['lost_attempts']:,} attempts came to nothing and are booked at their worst case")
    if figures["doubted_usage"]:
        console.print(
            f"{figures['doubted_usage']:,} answers came with impossible token counts, booked at the worst case"
        )


def _cells(row: Mapping[str, Any]) -> list[str]:
    counts = ("settled", "failed", "refused", "in_flight", "attempts", "prompt_tokens", "completion_tokens")
    accepted = "–" if row["acceptance"] is None else f"{row['acceptance']:.1%}"
    return [*(f"{row[name]:,}" for name in counts), f"{row['dollars']:,.4f}", accepted]
