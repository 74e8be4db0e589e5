"""Reading whole files and byte ranges of one folder, here or in an object store (gs://, s3://, … through fsspec)."""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from demiurgic_jax.errors import UserError

T = TypeVar("T")

OPEN_FILES = 256


class Folder(Protocol):
    """A folder to read from. Names are relative to it; OSError where a file cannot be read."""

    reading_threads: int  # with which ranges are read the fastest

    def sizes(self) -> dict[str, int]:
        """Bytes of every file in the folder; empty where there is no such folder."""
        ...

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Whole files."""
        ...

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes start..stop-1, fewer where the file ends before. Safe to call from several threads."""
        ...


def open_folder(where: str | Path) -> Folder:
    """The folder at a local path or an fsspec address. Raises UserError when no reader of its kind is installed."""
    if "://" not in str(where):
        return LocalFolder(Path(where))
    import fsspec

    scheme = str(where).partition("://")[0]
    try:
        system, path = fsspec.url_to_fs(str(where))
    except ImportError as error:
        raise UserError(f"{where} cannot be read ({error}): pip install 'demiurgic_jax[cloud]'") from error
    except ValueError as error:
        raise UserError(f"{where}: nothing reads {scheme}:// addresses; give a local folder, gs:// or s3://") from error
    return RemoteFolder(str(where), system, path)


class LocalFolder:
    """Files are kept open, the most recently used ones, so that a record costs one system call."""

    # Two would wait for the interpreter's lock at every call, and halve what one of them reads.
    reading_threads = 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = lru_cache(maxsize=OPEN_FILES)(lambda name: _OpenFile(path / name))

    def sizes(self) -> dict[str, int]:
        if not self._path.is_dir():
            return {}
        with os.scandir(self._path) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}

    def read(self, names: Sequence[str]) -> list[bytes]:
        return [(self._path / name).read_bytes() for name in names]

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        file = self._opened(name)  # held here, so that another thread that evicts it does not close it
        return os.pread(file.descriptor, stop - start, start)


class _OpenFile:
    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class RemoteFolder:
    """One ranged request per record; whole files are asked for together."""

    reading_threads = 16

    def __init__(self, address: str, system: Any, path: str) -> None:
        self._address = address
        self._system = system
        self._path = path.rstrip("/")

    def sizes(self) -> dict[str, int]:
        try:
            entries = self._asked(lambda: self._system.ls(self._path, detail=True))
        except FileNotFoundError:
            return {}
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries if entry["type"] == "file"}

    def read(self, names: Sequence[str]) -> list[bytes]:
        paths = [f"{self._path}/{name}" for name in names]
        content = self._asked(lambda: self._system.cat(paths))
        return [content[path] for path in paths]

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        return self._asked(lambda: self._system.cat_file(f"{self._path}/{name}", start=start, end=stop))

    def _asked(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except OSError:
            raise
        except Exception as error:  # each store's client has errors of its own
            raise OSError(f"{self._address} does not answer ({type(error).__name__}: {error})") from error
