"""The table and the picture of tools.benchmarks.distillation."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Results = Mapping[tuple[str, int], Mapping[str, float]]
UNITS = {
    "cross_entropy": "cross-entropy",
    "kl": "KL to the teacher",
    "bits_per_byte": "bits per byte",
}


def by_way(results: Results, field: str) -> dict[str, dict[int, float]]:
    """The figures called `field`: way, seed, value."""
    found: dict[str, dict[int, float]] = {}
    for (way, seed), figures in results.items():
        found.setdefault(way, {})[seed] = figures[field]
    return found


def mean_and_deviation(values: Sequence[float]) -> str:
    """As the table has it; of one value there is no deviation."""
    mean = statistics.fmean(values)
    return f"{mean:.4f} ± {statistics.stdev(values):.4f}" if len(values) > 1 else f"{mean:.4f}"


def table(fixed: Mapping[str, Any], data: Mapping[str, Any], results: Results) -> str:
    """Markdown: a row for each way, one for the student before and one for the teacher, then by how much each way
    differs from `text` on the seeds that both have."""
    fields = list(next(iter(fixed["rows"].values())))
    titles = [f"{name}: {UNITS[unit]}" for name, unit in (field.split("/") for field in fields)]
    lines = ["| | seeds | " + " | ".join(titles) + " |", "|---|---|" + "---|" * len(fields)]
    for name, figures in fixed["rows"].items():
        lines.append(f"| {name} | | " + " | ".join(f"{figures[field]:.4f}" for field in fields) + " |")
    ways = list(dict.fromkeys(way for way, _ in results))
    for way in ways:
        seeds = len(by_way(results, fields[0])[way])
        cells = (mean_and_deviation(list(by_way(results, field)[way].values())) for field in fields)
        lines.append(f"| {way} | {seeds} | " + " | ".join(cells) + " |")
    for way in ways:
        for other in ("text", "online"):
            if other in ways and way not in ("text", other):
                differences = (_difference(by_way(results, field), way, other) for field in fields)
                lines.append(f"| {way} against {other} | | " + " | ".join(differences) + " |")
    stored = "".join(
        f"{size:.1f} bytes of {kind} targets a token; " for kind, size in data["soft_target_bytes"].items()
    )
    measured = ", ".join(f"{each['tokens']:,} tokens ({name})" for name, each in fixed["heldout"].items())
    lines += [
        "",
        f"{fixed['tokens_of_a_run']:,} tokens a run out of {data['tokens']:,}; {stored}measured on {measured}",
    ]
    return "\n".join(lines)


def _difference(values: Mapping[str, Mapping[int, float]], way: str, other: str) -> str:
    """The mean over seeds of the relative difference, in percent."""
    both = sorted(values[way].keys() & values[other].keys())
    if not both:
        return ""
    percent = [100 * (values[way][seed] / values[other][seed] - 1) for seed in both]
    spread = f" ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
    return f"{statistics.fmean(percent):+.2f}{spread} %"


def write_table(folder: Path, results: Results) -> str:
    """table.md, which is returned, and table.svg in `folder`, from what it knows of the study and the results."""
    fixed, data = (json.loads((folder / name).read_text()) for name in ("fixed.json", "data.json"))
    text = table(fixed, data, results)
    (folder / "table.md").write_text(text + "\n")
    draw(folder / "table.svg", fixed, results)
    return text


def draw(path: Path, fixed: Mapping[str, Any], results: Results) -> None:
    """A panel for each figure: every seed as a dot, the mean of each way as a line."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    fields = list(next(iter(fixed["rows"].values())))
    # Without a fixed salt the same figures would give another file each time.
    with pyplot.rc_context({"svg.hashsalt": "demiurgic", "font.size": 9}):
        figure, panels = pyplot.subplots(1, len(fields), figsize=(3.2 * len(fields), 2.8), squeeze=False)
        for axes, field in zip(panels[0], fields, strict=True):
            ways = by_way(results, field)
            for place, values in enumerate(ways.values()):
                axes.plot([place] * len(values), list(values.values()), "o", color="#8fa8c8", markersize=4)
                axes.hlines(statistics.fmean(values.values()), place - 0.3, place + 0.3, color="#1f4e8c")
            axes.set_xticks(range(len(ways)), list(ways), rotation=20)
            axes.set_xlim(-0.6, len(ways) - 0.4)
            name, unit = field.split("/")
            axes.set_title(f"{name}: {UNITS[unit]}", fontsize=9)
            axes.grid(alpha=0.25, axis="y")
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)
