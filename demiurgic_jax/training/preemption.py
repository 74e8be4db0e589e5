"""Machines are taken away with a SIGTERM and a minute's grace: enough for one last checkpoint.

The processes of a run must save the same step, though the signal reaches each at another moment, or only one of them.
Their steps are a lockstep: the metrics of step n are sums over all, so who has them knows that all have begun n. A
process whose metrics are at most one step late is therefore never more than one step behind another. The one that is
told at step n names step n + 2 to all, and has done so before it begins n + 1, hence before any comes to n + 2.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import jax

from demiurgic_jax.errors import PreemptedError
from demiurgic_jax.sharding.messages import tell, told

TOPIC = "preempted"
# How many steps ahead the last one is named.
AHEAD = 2


class Preemption:
    """While entered, SIGTERM does not end the process but is noted. Only the main thread can catch signals."""

    def __init__(self) -> None:
        self._noticed = False
        self._said = False

    def __enter__(self) -> Self:
        self._catches = threading.current_thread() is threading.main_thread()
        if self._catches:
            self._before = signal.signal(signal.SIGTERM, self._notice)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._catches:
            signal.signal(signal.SIGTERM, self._before)
            # It came behind the last step: nothing is to be saved, but the process is to end.
            if self._noticed and kind is None:
                raise PreemptedError("stopped by SIGTERM as its last step was done; the same command goes on from here")

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self._noticed = True

    def last(self, step: int) -> bool:
        """Whether `step` (just begun; the one before is done) is to be the last: the same answer in all processes."""
        if not jax.distributed.is_initialized():
            return self._noticed
        if self._noticed and not self._said:
            tell(TOPIC, str(step + AHEAD))
            self._said = True
        return any(step >= int(named) for named in told(TOPIC).values())
