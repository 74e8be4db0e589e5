"""Files that are either whole or absent, and their pages in memory."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from demiurgic_jax.errors import UserError

TEMPORARY_SUFFIX = ".tmp"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path`, on disk for good, when the block ends without error.

    A kill leaves at most PATH.tmp, never half of `path`. Raises UserError when the disk is full.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in NO_ROOM:
            raise
        raise UserError(
            f"{path} could not be written ({error.strerror}); make room there and run again, what was finished is kept"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """A rename is only durable once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_back_pages(path: Path, start: int = 0, size: int = 0) -> None:
    """Says that a file (`size` bytes of it from `start`, 0 for all), or all files of a folder, are not needed in memory
    any more.

    Linux then begins to write what was changed of it, and takes back what is already on disk. A copy of many gigabytes
    is faster for that: it goes through a few pages again and again instead of touching all of the memory, and writes
    while it reads. Elsewhere nothing happens.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, start, size, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
