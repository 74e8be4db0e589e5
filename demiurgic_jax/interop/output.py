"""What a long export or import leaves: all of it, or nothing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demiurgic_jax.data.files import NO_ROOM, TEMPORARY_SUFFIX
from demiurgic_jax.errors import UserError


@contextmanager
def finished_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes `path` when the block ends without error.

    A kill leaves at most PATH.tmp, which the next attempt removes. UserError when `path` exists, or the disk is full.
    """
    with _finished(path) as temporary:
        temporary.mkdir(parents=True)
        yield temporary


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """The same for a file, whose folder is made."""
    with _finished(path) as temporary:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())


def require_absent(path: Path) -> None:
    """UserError when `path` is taken: said before anything is computed."""
    if path.exists():
        raise UserError(f"{path} exists: remove it, or give another path")


@contextmanager
def _finished(path: Path) -> Iterator[Path]:
    require_absent(path)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    _remove(temporary)
    try:
        yield temporary
        temporary.rename(path)
    except OSError as error:
        _remove(temporary)
        if error.errno not in NO_ROOM:
            raise
        raise UserError(f"{path} could not be written ({error.strerror}): make room there and run again") from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_room(path: Path, needed: int) -> None:
    """UserError, before anything is written, when the disk of `path` has less than `needed` bytes free."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if (free := shutil.disk_usage(folder).free) < needed:
        raise UserError(
            f"{path} takes {needed / 1e9:,.3f} GB and its disk has {free / 1e9:,.3f} GB free: make room, or give a "
            "path on another disk"
        )
