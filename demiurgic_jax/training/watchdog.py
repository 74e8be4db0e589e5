"""A step that never ends is ended: with every thread's stack on stderr, and an exit status of its own."""

import faulthandler
import os
import threading
import time
from types import TracebackType
from typing import Self

# What timeout(1) exits with.
HUNG_STATUS = 124
STDERR = 2


class Watchdog:
    """Ends the process with HUNG_STATUS when `beat` was not called for `seconds`; 0 switches it off.

    It sleeps until the first beat, and after `pause` until the next one: compiling may take as long as it takes.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._deadline: float | None = None
        self._left = threading.Event()

    def __enter__(self) -> Self:
        if self._seconds:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()

    def beat(self) -> None:
        """Says that the run moves on."""
        self._deadline = time.monotonic() + self._seconds

    def pause(self) -> None:
        """What follows may last."""
        self._deadline = None

    def _watch(self) -> None:
        while not self._left.wait(min(1.0, self._seconds / 4)):
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self._end()

    def _end(self) -> None:
        said = (
            f"no step has ended for {self._seconds:g} s (train.hang_seconds): the stacks of all threads follow; the "
            "same command goes on from the last checkpoint\n"
        )
        os.write(STDERR, said.encode())
        faulthandler.dump_traceback(STDERR, all_threads=True)
        os._exit(HUNG_STATUS)
