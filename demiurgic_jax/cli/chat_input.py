"""A message from the terminal, of one line or many."""

import contextlib
import sys
from collections.abc import Callable

from demiurgic_jax.cli.config_file import state_folder

PROMPT, MORE = "> ", ". "
_BLOCK = '"""'
_HISTORY_LINES = 1000


def read_message(*, keep: bool) -> str:
    """The next message. It goes on after a line that ends with a backslash, from \"\"\" to \"\"\", and to the end of a
    fenced block; text that is pasted comes as a whole. Raises EOFError at the end of input."""
    line = _line(PROMPT, keep)
    if line.startswith(_BLOCK):
        return _until(line.removeprefix(_BLOCK), lambda part: part.rstrip().endswith(_BLOCK), keep).rstrip()[:-3]
    lines = [line]
    while lines[-1].endswith("\\") or _in_fence(lines):
        lines[-1] = lines[-1].removesuffix("\\")
        lines.append(_line(MORE, keep))
    return "\n".join(lines)


def _until(first: str, ended: Callable[[str], bool], keep: bool) -> str:
    lines = [first]
    while not ended(lines[-1]):
        lines.append(_line(MORE, keep))
    return "\n".join(lines)


def _in_fence(lines: list[str]) -> bool:
    text = "\n".join(lines).split("\n")
    return sum(line.lstrip().startswith("```") for line in text) % 2 == 1


def _line(prompt: str, keep: bool) -> str:
    if sys.stdout.isatty():
        _line_editing(keep)
        return input(prompt)
    # A pipe takes the answers alone; the prompt is for the person.
    sys.stderr.write(prompt)
    sys.stderr.flush()
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line.removesuffix("\n")


_editing = False


def _line_editing(keep: bool) -> None:
    """Arrow keys, search, and the lines of earlier chats, where Python has readline."""
    global _editing
    if _editing:
        return
    _editing = True
    try:
        import readline
    except ImportError:
        return
    readline.set_history_length(_HISTORY_LINES)
    if not keep:
        return
    import atexit

    path = state_folder() / "input_history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        readline.read_history_file(path)
    except OSError:
        return  # a history that cannot be kept is no reason not to talk

    def write() -> None:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)

    atexit.register(write)
