"""A look at the model from outside while it trains: figures that training itself cannot make."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Watch:
    """Every `every` steps `look(step, params)` is given the parameters that would be evaluated then, on their devices,
    and its figures go into that step's row of metrics under their names. The clock of the metrics stands still."""

    every: int
    look: Callable[[int, Any], Mapping[str, float]]

    def is_due(self, step: int) -> bool:
        return step % self.every == 0
