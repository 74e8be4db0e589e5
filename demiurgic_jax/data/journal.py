"""Work done one record at a time, kept as it is done: what a kill leaves behind is gone on with."""

import os
import struct
from pathlib import Path

from demiurgic_jax.data.records import FOOTER_BYTES, HEADER_BYTES, CorruptRecordError, frame, unframe

NUMBER = struct.Struct("<Q")


class Journal:
    """A file of numbered records in the order in which they were finished, each with checksums.

    The first record is `head`, which says what the others are made from: a file with another head is begun anew. A
    record that a kill cut short is dropped, and so is all behind it. Whatever `append` returned from survives a kill of
    the process.
    """

    def __init__(self, path: Path, head: bytes) -> None:
        self.path = path
        self._where: dict[int, tuple[int, int]] = {}
        self._file = path.open("r+b" if path.exists() else "w+b")
        end = self._scan(head)
        self._file.truncate(end)
        if end == 0:
            self._file.write(frame(head))
        self._file.flush()

    def __contains__(self, number: object) -> bool:
        return number in self._where

    def __len__(self) -> int:
        return len(self._where)

    def append(self, number: int, data: bytes) -> None:
        """Keeps `data` as record `number`."""
        record = frame(NUMBER.pack(number) + data)
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(record)
        self._file.flush()
        self._where[number] = (start, start + len(record))

    def read(self, number: int) -> bytes:
        """The data of record `number`."""
        start, stop = self._where[number]
        self._file.seek(start)
        return unframe(self._file.read(stop - start))[NUMBER.size :]

    def remove(self) -> None:
        """Its records are kept elsewhere now."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()

    def _scan(self, head: bytes) -> int:
        """Where the last whole record ends; 0 when nothing of the file is of use."""
        start = 0
        while True:
            self._file.seek(start)
            header = self._file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                return start
            size = HEADER_BYTES + NUMBER.unpack_from(header)[0] + FOOTER_BYTES
            if size > os.fstat(self._file.fileno()).st_size - start:
                return start
            try:
                data = unframe(header + self._file.read(size - HEADER_BYTES))
            except CorruptRecordError:
                return start
            if start == 0 and data != head:
                return 0
            if start > 0:
                self._where[NUMBER.unpack_from(data)[0]] = (start, start + size)
            start += size
