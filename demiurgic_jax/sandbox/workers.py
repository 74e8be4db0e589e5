"""Interpreters started ahead in the sandbox, each for one job: nothing of one candidate can wait for the next."""

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable

from demiurgic_jax.sandbox.contained import Contained

_READY = max(2, os.cpu_count() or 1)
_FORGET_SECONDS = 60.0

# What a job takes: one contained process, or two that are joined by pipes.
Crew = tuple[Contained, ...]


class Workers:
    """Keeps a few crews ready for each kind of job that was asked for lately.

    All are started by one thread that lives as long as this process: bubblewrap ends a sandbox when the thread that
    started it ends.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._ready: dict[Hashable, deque[Crew]] = {}
        self._start: dict[Hashable, Callable[[], Crew]] = {}
        self._asked: dict[Hashable, float] = {}
        self._waiting: dict[Hashable, int] = {}
        self._error: BaseException | None = None
        self.closed = False
        self._thread = threading.Thread(target=self._refill, name="sandbox-workers", daemon=True)
        self._thread.start()

    def take(self, kind: Hashable, start: Callable[[], Crew]) -> Crew:
        """A crew that has not been used, from `start`. Raises what `start` raised."""
        with self._change:
            self._start[kind] = start
            self._asked[kind] = time.monotonic()
            self._waiting[kind] = self._waiting.get(kind, 0) + 1
            self._change.notify_all()
            try:
                while True:
                    ready = self._ready.setdefault(kind, deque())
                    while ready:
                        crew = ready.popleft()
                        if all(each.process.poll() is None for each in crew):
                            self._change.notify_all()
                            return crew
                        _end(crew)
                    if self._error is not None:
                        error, self._error = self._error, None
                        raise error
                    self._change.wait()
            finally:
                self._waiting[kind] -= 1

    def close(self) -> None:
        with self._change:
            self.closed = True
            crews = [crew for ready in self._ready.values() for crew in ready]
            self._ready.clear()
            self._change.notify_all()
        for crew in crews:
            _end(crew)

    def _refill(self) -> None:
        while True:
            with self._change:
                while not self.closed and (kind := self._wanted()) is None:
                    self._change.wait(_FORGET_SECONDS)
                    self._forget()
                if self.closed:
                    return
                start = self._start[kind]
            try:
                crew = start()
            except BaseException as error:
                with self._change:
                    self._error = error
                    self._asked.pop(kind, None)
                    self._change.notify_all()
                continue
            with self._change:
                if not self.closed:
                    self._ready.setdefault(kind, deque()).append(crew)
                    self._change.notify_all()
                    continue
            _end(crew)

    def _wanted(self) -> Hashable | None:
        """The kind that is shortest of crews, if one is short."""
        short = {kind: _READY + self._waiting[kind] - len(self._ready.get(kind, ())) for kind in self._asked}
        kind = max(short, key=short.__getitem__, default=None)
        return kind if kind is not None and short[kind] > 0 else None

    def _forget(self) -> None:
        for kind, asked in [*self._asked.items()]:
            if time.monotonic() - asked > _FORGET_SECONDS:
                del self._asked[kind], self._start[kind]
                for crew in self._ready.pop(kind, ()):
                    _end(crew)


def _end(crew: Crew) -> None:
    for each in crew:
        each.end()


_workers: tuple[int, Workers] | None = None
_making = threading.Lock()


def workers() -> Workers:
    """Those of this process; a forked child has its own, and those that were closed are made anew."""
    global _workers
    with _making:
        if _workers is None or _workers[0] != os.getpid() or _workers[1].closed:
            made = Workers()
            atexit.register(made.close)
            _workers = (os.getpid(), made)
        return _workers[1]
