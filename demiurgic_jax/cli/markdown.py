"""Markdown on a terminal, drawn while it is being written."""

import re
from collections.abc import Generator

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from demiurgic_jax.cli.terminal import console
from demiurgic_jax.data.completer import Completion
from demiurgic_jax.sampling.stream import Piece

_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")


def print_markdown(text: str) -> None:
    """The whole text, drawn."""
    console().print(Markdown(text))


def show_markdown(answer: Generator[Piece, None, Completion]) -> Completion:
    """Draws the answer as it comes: blocks that are complete stay, the one that is being written is drawn anew.

    However long the answer, only as much moves as one block of it, so that it can be scrolled and copied.
    """
    target = console()
    rest, shown = "", False
    with Live(Text(""), console=target, transient=True, refresh_per_second=8, vertical_overflow="crop") as live:
        while True:
            try:
                rest += next(answer).text
            except StopIteration as end:
                completion: Completion = end.value
                break
            except BaseException:
                # What was said until here stays to be read.
                live.update(Text(""))
                target.print(Markdown(rest))
                raise
            blocks, rest = complete_blocks(rest)
            if blocks:
                _print_block(target, blocks, behind_another=shown)
                shown = True
            live.update(Markdown(rest))
        live.update(Text(""))
        if rest.strip():
            _print_block(target, rest, behind_another=shown)
    return completion


def _print_block(target: Console, text: str, *, behind_another: bool) -> None:
    if behind_another:
        target.print()
    target.print(Markdown(text))


def complete_blocks(text: str) -> tuple[str, str]:
    """`text` up to the last blank line outside of a fenced block, where nothing to come changes how it looks; the rest.

    A list or quote goes on over blank lines, so a line that is indented or begins an item is kept with what is before.
    """
    fence, end, at, blank = "", 0, 0, False
    for line in text.splitlines(keepends=True):
        opening = _FENCE.match(line)
        if fence:
            if opening and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        else:
            if blank and line.strip() and not re.match(r"\s|[-*+>]|\d", line) and line.endswith("\n"):
                end = at
            if opening:
                fence = opening[1]
            blank = not line.strip()
        at += len(line)
    return text[:end], text[end:]
