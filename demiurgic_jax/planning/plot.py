"""Memory by part, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from demiurgic_jax.planning.estimate import Plan
from demiurgic_jax.planning.report import parts_of


def plot_memory(plans: Sequence[Plan], path: Path) -> None:
    """A stacked bar for each plan, GB of one chip, with the chip's limit across it. The suffix decides the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 + 1.3 * len(plans), 4.5), layout="constrained")
    axes = figure.subplots()
    names = [plan.hardware.name for plan in plans]
    bottom = [0.0] * len(plans)
    for field, part in parts_of(plans).items():
        heights = [getattr(plan.figures, field) / 1e9 for plan in plans]
        axes.bar(names, heights, bottom=bottom, label=part)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    for place, plan in enumerate(plans):
        label = "limit of the chip" if place == 0 else ""
        axes.hlines(plan.limit_bytes / 1e9, place - 0.45, place + 0.45, color="black", linestyle="dashed", label=label)
    axes.set_ylabel("GB of one chip")
    axes.set_title("Memory of one training step")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    figure.savefig(path)
