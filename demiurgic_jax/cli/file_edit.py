"""A change to a file: shown as a unified diff, and written whole or not at all."""

import difflib
import os
import stat
import tempfile
from pathlib import Path

from demiurgic_jax.errors import UserError

_NO_NEWLINE = "\\ No newline at end of file\n"


def unified_diff(old: str, new: str, name: str) -> str:
    """What `patch -p1` and `git apply` take; "" where nothing changes. A name from the root loses its first slash."""
    name = name.lstrip("/")
    # Split at \n alone, as patch does: a form feed or a lone \r ends no line.
    diff = difflib.unified_diff(_lines(old), _lines(new), f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}" for line in diff)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def write_whole(path: Path, new: str, *, was: str | None) -> None:
    """Puts `new` in the file's place in one step, its permissions kept and symbolic links followed.

    `was` is what the file held when the model was asked, None for a file that was not there. Raises UserError when it
    holds something else by now, or cannot be written; the file is then as it was.
    """
    path = path.resolve()
    try:
        if was is None:
            if path.exists():
                raise UserError(f"{path} was made by someone else meanwhile: nothing is written")
            mode = 0o666 & ~_umask()
        else:
            if path.read_bytes() != was.encode():
                raise UserError(f"{path} was changed while the model wrote: nothing is written, ask again")
            mode = stat.S_IMODE(path.stat().st_mode)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(new.encode())
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): nothing is written") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
