"""The real file, cut off or damaged, ends in one sentence, never in somebody else's exception."""

import os
import random
import shutil

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.gguf_config import read_config
from demiurgic_jax.interop.gguf_file import GgufFile
from demiurgic_jax.interop.imported import import_model


@pytest.fixture
def copy(smollm2_gguf, tmp_path):
    path = tmp_path / "copy.gguf"
    shutil.copyfile(smollm2_gguf, path)
    return path


def assert_refused(path):
    with pytest.raises(UserError) as refusal:
        import_model(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_truncation_is_refused(copy):
    size = copy.stat().st_size
    generator = random.Random(0)
    anywhere = [generator.randrange(size) for _ in range(10)]
    # The header is a few megabytes, most of them vocabulary.
    early = [generator.randrange(2_000_000) for _ in range(10)]
    # From the largest down: one copy serves them all.
    for length in sorted([size - 1, 1000, 24, 4, 3, 0, *anywhere, *early], reverse=True):
        os.truncate(copy, length)
        assert_refused(copy)


def test_flipped_bits_of_fields_and_tensor_tables_are_refused_or_harmless(copy):
    """A flip may also give another name or number that is right in itself: then there is a config."""
    content = copy.read_bytes()
    table = content.index(b"blk.0.attn_norm.weight")
    generator = random.Random(1)
    offsets = [generator.randrange(4, 1500) for _ in range(25)]
    offsets += [generator.randrange(table, table + 10_000) for _ in range(15)]
    refusals = []
    with copy.open("r+b", buffering=0) as file:
        for offset in offsets:
            file.seek(offset)
            file.write(bytes([content[offset] ^ 1 << generator.randrange(8)]))
            try:
                _, config = read_config(GgufFile(copy), None)
                assert config.num_parameters > 0
            except UserError as error:
                refusals.append(str(error))
            file.seek(offset)
            file.write(content[offset : offset + 1])
    assert len(refusals) > 10
    assert not any("\n" in sentence for sentence in refusals)


def test_other_files_are_refused(tmp_path):
    for name, content in (
        ("empty", b""),
        ("html", b"<!doctype html>"),
        ("magic", b"GGUF"),
        ("zeros", b"GGUF" + bytes(99)),
    ):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        assert_refused(path)
    with pytest.raises(UserError, match="does not exist"):
        import_model(tmp_path / "absent.gguf")
