"""What a person sees of a long copy: a live bar with speed and time left on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

PLAIN_LINE_SECONDS = 10.0


@contextmanager
def byte_progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with the bytes done and in all. Everything goes to stderr."""
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(doing, total=None)
    said = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal said
        bar.update(task, completed=done, total=total)
        if not console.is_terminal and time.monotonic() - said > PLAIN_LINE_SECONDS:
            said = time.monotonic()
            console.print(f"{doing}: {done / 1e9:,.2f} of {total / 1e9:,.2f} GB")

    with bar:
        yield advance
