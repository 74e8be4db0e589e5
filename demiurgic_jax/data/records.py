"""TFRecord framing: length, checksum of the length, data, checksum of the data.

Format: tensorflow/core/lib/io/record_writer.h. Checksums are CRC-32C, rotated and offset ("masked") so
that a checksum of data that holds checksums stays strong.
"""

import struct
from functools import lru_cache

import google_crc32c

HEADER_BYTES = 12  # uint64 length, uint32 masked CRC of those eight bytes
FOOTER_BYTES = 4  # uint32 masked CRC of the data


class CorruptRecordError(Exception):
    """A record that is cut short or fails a checksum."""


def masked_crc32c(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """`data` as one record."""
    return b"".join([_header(len(data)), data, struct.pack("<I", masked_crc32c(data))])


def unframe(record: bytes) -> bytes:
    """The data of one whole record, both checksums verified. Raises CorruptRecordError."""
    if not record.startswith(_header(len(record) - HEADER_BYTES - FOOTER_BYTES)):
        raise CorruptRecordError(_fault_of_header(record))
    data = record[HEADER_BYTES:-FOOTER_BYTES]
    if masked_crc32c(data) != int.from_bytes(record[-FOOTER_BYTES:], "little"):
        raise CorruptRecordError("fails the checksum of its data")
    return data


@lru_cache(maxsize=1 << 14)  # records are of a few thousand lengths
def _header(length: int) -> bytes:
    """What a record with `length` bytes of data begins with."""
    packed = struct.pack("<q", length)
    return packed + struct.pack("<I", masked_crc32c(packed))


def _fault_of_header(record: bytes) -> str:
    if len(record) < HEADER_BYTES + FOOTER_BYTES or masked_crc32c(record[:8]) == int.from_bytes(record[8:12], "little"):
        return "is cut short"
    return "fails the checksum of its length"
