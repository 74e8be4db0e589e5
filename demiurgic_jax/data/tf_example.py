"""`tf.train.Example` without TensorFlow: its message type, built on protobuf's own runtime.

Only byte strings are used here; the float and integer lists are declared because they are part of the type.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

Field = descriptor_pb2.FieldDescriptorProto


def _field(
    message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: int, *, repeated: bool = False, of: str = ""
) -> descriptor_pb2.FieldDescriptorProto:
    label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    type_name = f".tensorflow.{of}" if of else None
    return message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name)


def _example_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="demiurgic/example.proto", package="tensorflow", syntax="proto3")
    for name, kind in (
        ("BytesList", Field.TYPE_BYTES),
        ("FloatList", Field.TYPE_FLOAT),
        ("Int64List", Field.TYPE_INT64),
    ):
        _field(file.message_type.add(name=name), "value", 1, kind, repeated=True)

    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), start=1):
        of = "".join(word.capitalize() for word in name.split("_"))
        _field(feature, name, number, Field.TYPE_MESSAGE, of=of).oneof_index = 0

    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, Field.TYPE_STRING)
    _field(entry, "value", 2, Field.TYPE_MESSAGE, of="Feature")
    _field(features, "feature", 1, Field.TYPE_MESSAGE, repeated=True, of="Features.FeatureEntry")

    _field(file.message_type.add(name="Example"), "features", 1, Field.TYPE_MESSAGE, of="Features")
    # A pool of its own: TensorFlow, where it is loaded too, declares the same names in the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _unparsed_class() -> Any:
    """The same message with its features left as they are: Python objects of nested messages take most of the time
    that reading a document takes."""
    file = descriptor_pb2.FileDescriptorProto(name="demiurgic/unparsed.proto", package="unparsed", syntax="proto3")
    _field(file.message_type.add(name="Features"), "feature", 1, Field.TYPE_BYTES, repeated=True)
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, type=Field.TYPE_MESSAGE, type_name=".unparsed.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("unparsed.Example"))


_Example = _example_class()
_Unparsed = _unparsed_class()


def serialize_features(features: Mapping[str, bytes]) -> bytes:
    """One byte string per feature name; equal features give equal bytes."""
    example = _Example()
    for name, value in features.items():
        example.features.feature[name].bytes_list.value.append(value)
    return example.SerializeToString(deterministic=True)


def parse_features(record: bytes) -> dict[str, bytes]:
    """Inverse of `serialize_features`. Raises ValueError when `record` is no such message."""
    try:
        return dict(map(_key_and_value, _Unparsed.FromString(record).features.feature))
    except (DecodeError, IndexError) as error:
        raise ValueError(f"not a tf.train.Example: {error}") from error


def _key_and_value(entry: bytes) -> tuple[str, bytes]:
    """Of one serialized feature with a single byte string: key, then three nested sizes before the bytes themselves."""
    key_stop = 2 + entry[1]
    at = key_stop + 1
    if len(entry) <= 0x7F:  # every size takes one byte
        return entry[2:key_stop].decode(), entry[at + 5 :]
    for _ in ("the Feature", "the BytesList"):
        at = _size_end(entry, at) + 1
    return entry[2:key_stop].decode(), entry[_size_end(entry, at) :]


def features_alone(features: Mapping[str, bytes]) -> bytes:
    """These features as they stand side by side in a serialized example."""
    record = serialize_features(features)
    return record[first_feature(record) :]


def first_feature(record: bytes) -> int:
    """Where the first feature of a serialized example begins."""
    return _size_end(record, 1)


def next_feature(record: bytes, at: int) -> int:
    """Where the feature after the one at `at` begins."""
    size = record[at + 1]
    if size <= 0x7F:
        return at + 2 + size
    end = _size_end(record, at + 1)
    return end + sum((byte & 0x7F) << 7 * i for i, byte in enumerate(record[at + 1 : end]))


def _size_end(data: bytes, at: int) -> int:
    """One past the size (a varint) at `at`, all of whose bytes but the last one have their highest bit set."""
    while data[at] > 0x7F:
        at += 1
    return at + 1
