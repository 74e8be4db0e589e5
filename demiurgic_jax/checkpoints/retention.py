"""Which checkpoints of a run stay on disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orbax.checkpoint import checkpoint_managers


@dataclass(frozen=True)
class Retention:
    """Kept are the `last` newest (None: all), those of steps that `every` divides (0: none), those of the steps
    `always`, and the `best`: those with the lowest `metric` of their card's held-out figures."""

    last: int | None = None
    every: int = 0
    best: int = 0
    metric: str = "heldout/cross_entropy"
    always: Sequence[int] = ()


class RetentionPolicy(checkpoint_managers.PreservationPolicy):
    """`Retention` as Orbax asks for it. `figure` gives the metric of a step, None where it was not evaluated."""

    def __init__(self, retention: Retention, figure: Callable[[int], float | None]):
        self._retention, self._figure = retention, figure

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        kept, steps = self._retention, sorted(info.step for info in checkpoints)
        chosen = set(steps) & set(kept.always)
        chosen.update(steps if kept.last is None else steps[len(steps) - min(kept.last, len(steps)) :])
        if kept.every:
            chosen.update(step for step in steps if step % kept.every == 0)
        if kept.best:
            figures = {step: self._figure(step) for step in steps}
            evaluated = {step: figure for step, figure in figures.items() if figure is not None}
            chosen.update(sorted(evaluated, key=lambda step: (evaluated[step], -step))[: kept.best])
        return [info.step in chosen for info in checkpoints]
