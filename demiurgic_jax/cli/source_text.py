"""The text that a command is about: an argument, a file, a place or some lines in it, or stdin."""

import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from demiurgic_jax.errors import UserError

_PLACE = re.compile(r"([^\n]+):(\d+):(\d+)")
_LINES = re.compile(r"(\d+)[-:](\d+)|(\d+)")


def read_file(path: str | Path) -> str:
    """The file's text as it stands, line ends included. Raises UserError where it cannot be read as UTF-8."""
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a text file") from error
    except ValueError as error:
        raise _not_text(str(path), error) from error


def read_stdin(what: str) -> str:
    """All of stdin. Raises UserError on a terminal, where nobody would know what is waited for."""
    if sys.stdin.isatty():
        raise UserError(f"give {what}: as an argument, a file, or through a pipe (demiurgic --help has examples)")
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise _not_text("stdin", error) from error


def _not_text(name: str, error: ValueError) -> UserError:
    if isinstance(error, UnicodeDecodeError):
        return UserError(f"{name} is not UTF-8 at byte {error.start}: convert it first")
    return UserError(f"{name!r} is no path: {error}")


def split_at_place(argument: str) -> tuple[str, str] | None:
    """What stands before and after the cursor of FILE:LINE:COL; None when the argument is a text.

    Lines and columns count from 1, columns in characters; the cursor stands before its character, so the column
    behind the last character is the line's end. Raises UserError for a place that the file does not have.
    """
    if not (found := _PLACE.fullmatch(argument)):
        return None
    path, line, column = Path(found[1]), int(found[2]), int(found[3])
    if not path.is_file():
        # `x[1:2:3` is code; `tool.py:1:2` is a mistyped file.
        if path.suffix.isidentifier() or (path.suffix[1:].isidentifier() and not re.search(r"[\s()\[\]{}]", found[1])):
            raise UserError(
                f"there is no file {path}: mend its name, or pipe the text in if it is the text to continue"
            )
        return None
    text = read_file(path)
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise UserError(f"{argument}: {path} has {len(lines)} lines: give a line of 1 to {len(lines)}")
    length = len(lines[line - 1].removesuffix("\r"))
    if not 1 <= column <= length + 1:
        raise UserError(f"{argument}: line {line} has {length} characters: give a column of 1 to {length + 1}")
    at = sum(len(each) + 1 for each in lines[: line - 1]) + column - 1
    return text[:at], text[at:]


@dataclass(frozen=True)
class Selection:
    """Lines `first` to `last` (from 1, both included) of a file's text; of stdin, `path` is None.

    What the model sees is `code`: without the lines' common indent, with plain line ends. `replaced` puts an answer in
    their place the way the file is written.
    """

    path: Path | None
    text: str
    first: int
    last: int

    @property
    def name(self) -> str:
        return str(self.path) if self.path else "stdin"

    @property
    def code(self) -> str:
        return textwrap.dedent(self._selected)

    def replaced(self, code: str) -> str:
        """The whole text with `code` instead of the selected lines: their indent, their line ends, and the blank
        lines around them."""
        # Not textwrap.indent, which takes U+2028 for the end of a line.
        lines = textwrap.dedent(code).strip("\n").split("\n")
        new = "\n".join(self._indent + line if line.strip() else line for line in lines)
        blank = len(self.code) - len(self.code.lstrip("\n"))
        end = len(self.code) - len(self.code.rstrip("\n"))
        before, after = self._around
        whole = before + "\n" * blank + new + "\n" * end + after
        return self._mark + (whole.replace("\n", "\r\n") if self._windows else whole)

    @property
    def _mark(self) -> str:
        return "\ufeff" if self.text.startswith("\ufeff") else ""

    @property
    def _windows(self) -> bool:
        return "\r\n" in self.text

    @property
    def _lines(self) -> list[str]:
        # Not str.splitlines: a form feed or U+2028 ends no line of code.
        plain = self.text.removeprefix("\ufeff").replace("\r\n", "\n")
        return re.findall(r"[^\n]*\n|[^\n]+\Z", plain)

    @property
    def _selected(self) -> str:
        return "".join(self._lines[self.first - 1 : self.last])

    @property
    def _around(self) -> tuple[str, str]:
        return "".join(self._lines[: self.first - 1]), "".join(self._lines[self.last :])

    @property
    def _indent(self) -> str:
        lines = [line for line in self._selected.split("\n") if line.strip()]
        dedented = [line for line in self.code.split("\n") if line.strip()]
        return lines[0].removesuffix(dedented[0]) if lines else ""


def select(file: str | None, lines: str | None) -> Selection:
    """The code of a file ("-" or None: of stdin), or some of its lines, given as "10-20" or "10".

    Raises UserError when there is no code there.
    """
    path = None if file in (None, "-") else Path(str(file))
    text = read_file(path) if path else read_stdin("the code")
    count = len(Selection(path, text, 1, 1)._lines)
    first, last = (1, count) if lines is None else _range(lines, count, path)
    selection = Selection(path, text, first, last)
    if not selection.code.strip():
        raise UserError(f"there is no code in {selection.name}{f', lines {lines}' if lines else ''}: give some")
    return selection


def _range(lines: str, count: int, path: Path | None) -> tuple[int, int]:
    if not (found := _LINES.fullmatch(lines.strip())):
        raise UserError(f"--lines is {lines!r}: give a range like 10-20")
    first, last = (int(found[1]), int(found[2])) if found[1] else (int(found[3]), int(found[3]))
    if not 1 <= first <= last <= count:
        raise UserError(f"--lines is {lines}: {path or 'stdin'} has lines 1-{count}, the first comes first")
    return first, last
