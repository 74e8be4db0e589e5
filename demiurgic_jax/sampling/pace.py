"""How long the engine's programs take on this machine, as seen lately."""

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

# Weight of the newest measurement.
NEWEST = 0.2


class Pace:
    """Seconds of one step of each program. The first run of each is not counted: it may compile."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float | None] = {}

    @contextmanager
    def timed(self, program: Hashable, steps: int = 1) -> Iterator[None]:
        """The block runs `steps` steps of `program`."""
        began = time.perf_counter()
        yield
        seconds = (time.perf_counter() - began) / steps
        if program not in self._seconds:
            self._seconds[program] = None
            return
        known = self._seconds[program]
        self._seconds[program] = seconds if known is None else known + NEWEST * (seconds - known)

    def fitting(self, program: Hashable, seconds: float, most: int) -> int:
        """Steps that end within `seconds`, from 1 to `most`."""
        known = self._seconds.get(program)
        return 1 if known is None else max(1, min(most, int(seconds / known)))

    def prefers(self, program: Hashable, other: Hashable, worth: float) -> bool:
        """Whether a step of `program`, which is worth `worth` steps of `other`, takes less time than these. What takes
        an unknown time is preferred, so that it becomes known; `other` first."""
        one, two = self._seconds.get(program), self._seconds.get(other)
        return two is not None and (one is None or one < worth * two)
