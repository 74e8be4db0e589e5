"""What becomes of a file's pages in memory."""

import ctypes
import mmap
import os

import pytest

from demiurgic_jax.data.files import give_back_pages

SIZE = 4 << 20


def pages_in_memory(path) -> int:
    """As the kernel says (mincore)."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        count = len(mapped) // mmap.PAGESIZE
        seen = (ctypes.c_ubyte * count)()
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(mapped)), seen) == 0
        return sum(each & 1 for each in seen)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system has no posix_fadvise")
def test_what_is_on_disk_gives_its_pages_back_and_what_is_not_stays_whole(tmp_path):
    content = os.urandom(SIZE)
    for name in ("written", "synced"):
        with (tmp_path / name).open("wb") as file:
            file.write(content)
            if name == "synced":
                file.flush()
                os.fsync(file.fileno())
    give_back_pages(tmp_path / "synced", 0, SIZE // 2)
    if (half := pages_in_memory(tmp_path / "synced")) == SIZE // mmap.PAGESIZE:
        pytest.skip("this file system lives in memory")
    assert half == SIZE // mmap.PAGESIZE // 2
    give_back_pages(tmp_path)
    assert pages_in_memory(tmp_path / "synced") == 0
    for name in ("written", "synced"):
        assert (tmp_path / name).read_bytes() == content
