"""What a person sees of a stage while it runs: a live bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

PLAIN_LINE_SECONDS = 10.0


class StageProgress:
    """Progress of one stage; call it with what is done of what, as often as you like."""

    def __init__(self, stage: str, console: Console):
        self.stage, self.console = stage, console
        self._live = console.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(stage, total=None, note="")
        self._first: tuple[float, int] | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._live:
            self._bar.stop()

    def __call__(self, done: int, total: int, unit: str, note: str = "") -> None:
        """`done` of `total` `unit`s; the rate is counted from the first call on."""
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            self._first = (now, done)
        elapsed = now - self._first[0]
        rate = f"{(done - self._first[1]) / elapsed:,.1f} {unit}/s" if elapsed > 0 and done > self._first[1] else unit
        text = f"{rate}  {note}".rstrip()
        if self._live:
            self._bar.update(self._task, completed=done, total=total, note=text)
        elif now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            self.say(f"{done:,}/{total:,} {text}")

    def doing(self, what: str) -> None:
        """Names a step whose length is unknown."""
        if self._live:
            self._bar.update(self._task, note=what)
        else:
            self.say(what)

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(f"[{self.stage}] {line}", markup=False, highlight=False, soft_wrap=True)
