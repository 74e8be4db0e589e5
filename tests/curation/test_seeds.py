"""Seeds: real code, each piece once, always the same, with its origin."""

import ast
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from demiurgic_jax.curation.seeds import cut_seeds, is_heldout, read_seeds, write_seeds
from demiurgic_jax.curation.sources import read_folder, standard_library
from demiurgic_jax.errors import UserError


@pytest.fixture(scope="module")
def seeds():
    folder, licence = standard_library()
    return list(cut_seeds(read_folder(folder / "email", licence=licence)))


def test_folders_are_read_in_order_and_what_is_skipped_is_counted(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b" / "z.py").write_bytes(b"x = 1\r\ny = 2\r\n")
    (tmp_path / "a.py").write_bytes("s = 'ä'\n".encode())
    (tmp_path / "latin.py").write_bytes(b"s = '\xe4'\n")
    (tmp_path / "empty.py").write_bytes(b"\n")
    (tmp_path / "large.py").write_bytes(b"x = 1\n" * 100)
    (tmp_path / "notes.txt").write_bytes(b"no")
    for folder in ("tests", ".hidden"):
        (tmp_path / folder / "no.py").write_bytes(b"x = 1\n")
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    counts = Counter()
    files = list(read_folder(tmp_path, licence="MIT", max_bytes=100, counts=counts))
    assert [(file.path, file.text, file.licence) for file in files] == [
        ("a.py", "s = 'ä'\n", "MIT"),
        ("b/z.py", "x = 1\ny = 2\n", "MIT"),
    ]
    assert counts == {
        "not UTF-8": 1, "empty": 1, "too large": 1, "link": 1, "folders: tests": 1, "folders: hidden": 1
    }  # fmt: skip


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        list(read_folder(tmp_path / "nowhere", licence="MIT"))


def test_seeds_are_distinct_whole_pieces_of_the_wanted_length(seeds):
    assert len(seeds) > 200
    assert len({seed.id for seed in seeds}) == len({seed.code for seed in seeds}) == len(seeds)
    folder, licence = standard_library()
    for seed in seeds:
        assert len(ast.parse(seed.code).body) == 1
        assert 4 <= len(seed.code.splitlines()) <= 60
        assert seed.licence == licence == "PSF-2.0"
        first = (folder / "email" / seed.path).read_text().splitlines()[seed.start_line - 1]
        assert first.strip() == seed.code.splitlines()[0]


def test_kinds_choose_what_is_cut():
    folder, licence = standard_library()
    files = list(read_folder(folder / "json", licence=licence))
    kinds = Counter(seed.kind for seed in cut_seeds(files, kinds=("file", "class"), max_lines=500))
    assert set(kinds) == {"file", "class"}
    with pytest.raises(UserError, match="unknown kind of seed 'module'"):
        list(cut_seeds(files, kinds=("module",)))


def test_another_process_cuts_the_same_seeds(seeds, tmp_path):
    write_seeds(tmp_path / "here.jsonl", seeds)
    program = (
        "import sys; from demiurgic_jax.curation.seeds import *; from demiurgic_jax.curation.sources import *\n"
        "folder, licence = standard_library()\n"
        "write_seeds(sys.argv[1], cut_seeds(read_folder(folder / 'email', licence=licence)))\n"
        "assert 'jax' not in sys.modules\n"
    )
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", program, tmp_path / "there.jsonl"], check=True, env=environment)
    assert (tmp_path / "here.jsonl").read_bytes() == (tmp_path / "there.jsonl").read_bytes()


def test_seeds_come_back_from_their_file(seeds, tmp_path):
    odd = replace(seeds[0], code="s = '\u2028 \\ud800 ä'\n")
    path = tmp_path / "seeds.jsonl"
    assert write_seeds(path, [*seeds, odd]) == len(seeds) + 1
    assert read_seeds(path) == [*seeds, odd]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(seeds, tmp_path):
    path = tmp_path / "seeds.jsonl"
    write_seeds(path, seeds[:3])

    def broken():
        yield seeds[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_seeds(path, broken())
    assert read_seeds(path) == seeds[:3]
    assert list(tmp_path.iterdir()) == [path]


def test_bad_rows_are_named(seeds, tmp_path):
    path = tmp_path / "seeds.jsonl"
    write_seeds(path, seeds[:2])
    whole = path.read_text()
    path.write_text(whole + '{"id": "x"}\n')
    with pytest.raises(UserError, match=r"seeds\.jsonl line 3 is not a seed"):
        read_seeds(path)
    path.write_text(whole + whole[:40])
    with pytest.raises(UserError, match=r"seeds\.jsonl line 3 is not JSON"):
        read_seeds(path)
    with pytest.raises(UserError, match=r"none\.jsonl does not exist"):
        read_seeds(tmp_path / "none.jsonl")


def test_the_heldout_split_keeps_files_whole_and_its_share(seeds):
    paths = [f"package/module_{number}.py" for number in range(2000)]
    share = sum(is_heldout(path, 0.1) for path in paths) / len(paths)
    assert 0.08 < share < 0.12
    assert {path for path in paths if is_heldout(path, 0.05)} < {path for path in paths if is_heldout(path, 0.1)}
    assert not any(is_heldout(path, 0.0) for path in paths)
    assert all(is_heldout(path, 1.0) for path in paths)
