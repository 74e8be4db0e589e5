"""TFRecord framing: length, checksum of the length, data, checksum of the data.

Format: tensorflow/core/lib/io/record_writer.h. Checksums are CRC-32C, rotated and offset ("masked") so
that a checksum of data that holds checksums stays strong.
"""

import struct

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
    length = struct.pack("<Q", len(data))
    return b"".join([length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))])


def unframe(record: bytes) -> bytes:
    """The data of one whole record, both checksums verified. Raises CorruptRecordError."""
    if len(record) < HEADER_BYTES + FOOTER_BYTES:
        raise CorruptRecordError("is cut short")
    length, length_crc = struct.unpack_from("<QI", record)
    if masked_crc32c(record[:8]) != length_crc:
        raise CorruptRecordError("fails the checksum of its length")
    if len(record) != HEADER_BYTES + length + FOOTER_BYTES:
        raise CorruptRecordError("is cut short")
    data = record[HEADER_BYTES:-FOOTER_BYTES]
    if masked_crc32c(data) != struct.unpack_from("<I", record, HEADER_BYTES + length)[0]:
        raise CorruptRecordError("fails the checksum of its data")
    return data
