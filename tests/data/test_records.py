import struct

import pytest

from demiurgic_jax.data.records import CorruptRecordError, frame, masked_crc32c, unframe
from demiurgic_jax.data.tf_example import parse_features, serialize_features

DATA = b"one record \x00\xff" * 3


def crc32c_by_definition(data: bytes) -> int:
    """Bit by bit over the reversed Castagnoli polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_checksum_is_crc32c_rotated_by_15_and_offset():
    assert crc32c_by_definition(b"123456789") == 0xE3069283
    for data in (b"", b"123456789", DATA):
        crc = crc32c_by_definition(data)
        assert masked_crc32c(data) == ((crc >> 15 | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32


def test_a_record_is_length_checksum_data_checksum():
    record = frame(DATA)
    length = struct.pack("<Q", len(DATA))
    assert record == length + struct.pack("<I", masked_crc32c(length)) + DATA + struct.pack("<I", masked_crc32c(DATA))
    assert unframe(record) == DATA
    assert unframe(frame(b"")) == b""


def test_any_flipped_bit_is_seen():
    record = frame(DATA)
    for bit in range(8 * len(record)):
        changed = bytearray(record)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecordError):
            unframe(bytes(changed))


def test_any_cut_is_seen():
    record = frame(DATA)
    for size in range(len(record)):
        with pytest.raises(CorruptRecordError, match="cut short"):
            unframe(record[:size])


def test_example_is_the_protocol_buffer_that_tensorflow_writes():
    # Example{1: Features{1: {1: "a", 2: Feature{1: BytesList{1: "\x01\x02"}}}}}, spelt by the wire format.
    bytes_list = b"\x0a\x02\x01\x02"
    feature = b"\x0a" + bytes([len(bytes_list)]) + bytes_list
    entry = b"\x0a\x01a\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert serialize_features({"a": b"\x01\x02"}) == b"\x0a" + bytes([len(features)]) + features


def test_features_come_back_and_order_does_not_matter():
    features = {"tokens": DATA, "key": b"", "a": b"x" * 1000}
    assert parse_features(serialize_features(features)) == features
    assert serialize_features(features) == serialize_features(dict(reversed(features.items())))


def test_what_is_no_example_is_refused():
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
        parse_features(b"\xff\xff\xff")
