"""The picture of a report: pass@1 of every benchmark and of its parts, with intervals."""

import io
from collections.abc import Sequence

from demiurgic_jax.evaluation.scores import BenchmarkScores, Score

_COLOURS = ("#1f4e8c", "#8fa8c8")


def score_plot(scores: Sequence[BenchmarkScores]) -> str:
    """SVG, the same for the same scores: a bar for each benchmark, and paler ones for its languages, skills and types
    of bugs where it has several."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    bars = [bar for each in scores for bar in _bars(each)]
    # Without a fixed salt the same bars would give another file each time.
    with pyplot.rc_context({"svg.hashsalt": "demiurgic", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7.2, 0.6 + 0.26 * max(1, len(bars))))
        for place, (_, score, whole) in enumerate(bars):
            interval = score.pass_at[1]
            around = [[max(0.0, interval.value - interval.low)], [max(0.0, interval.high - interval.value)]]
            axes.barh(place, interval.value, xerr=around, color=_COLOURS[not whole], height=0.7, ecolor="#444")
        axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("pass@1, with 95 % intervals over problems")
        axes.grid(alpha=0.25, axis="x")
        figure.tight_layout()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return buffer.getvalue()


def _bars(scores: BenchmarkScores) -> list[tuple[str, Score, bool]]:
    """(label, score, whether it is of the whole benchmark)"""
    if scores.whole is None:
        return []
    parts = [
        (f"  {name}", each, False) for named in scores.parts.values() if len(named) > 1 for name, each in named.items()
    ]
    return [(scores.name, scores.whole, True), *parts]
