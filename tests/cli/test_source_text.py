"""Places and lines in files: what stands around a cursor, and what an answer takes the place of."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from demiurgic_jax.cli.source_text import Selection, select, split_at_place
from demiurgic_jax.errors import UserError

CODE = "class A:\n    def f(self):\n        return 'ä€𝒙'\n\n\nx = 1"


def test_a_place_is_between_what_stands_before_and_after_it(tmp_path: Path):
    file = tmp_path / "a file:1.py"
    file.write_bytes(CODE.replace("\n", "\r\n").encode())
    text = file.read_bytes().decode()
    for line, column in ((1, 1), (1, 9), (3, 18), (4, 1), (6, 6)):
        prefix, suffix = split_at_place(f"{file}:{line}:{column}")
        assert prefix + suffix == text
        assert (prefix.count("\n"), len(prefix) - prefix.rfind("\n") - 1) == (line - 1, column - 1)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("0:1", "give a line of 1 to 6"),
        ("7:1", "give a line of 1 to 6"),
        ("6:7", "column of 1 to 6"),
        ("1:0", "1 to 9"),
    ],
)
def test_a_place_that_the_file_does_not_have_is_refused(tmp_path: Path, place: str, sentence: str):
    (tmp_path / "a.py").write_text(CODE)
    with pytest.raises(UserError, match=sentence):
        split_at_place(f"{tmp_path / 'a.py'}:{place}")


def test_a_mistyped_file_is_no_text_and_code_is_no_place(tmp_path: Path):
    with pytest.raises(UserError, match="there is no file"):
        split_at_place(f"{tmp_path / 'b.py'}:1:1")
    for text in ("x = y[1:2:3", "x[a.b:1:2", "def f(n):", "10:20:30", "see tool.py:1:2 and"):
        assert split_at_place(text) is None


def test_lines_are_seen_without_their_indent_and_put_back_with_it(tmp_path: Path):
    (tmp_path / "a.py").write_text(CODE)
    selection = select(str(tmp_path / "a.py"), "2-3")
    assert selection.code == "def f(self):\n    return 'ä€𝒙'\n"
    new = selection.replaced("def f(self):\n    return 2\n")
    assert new == "class A:\n    def f(self):\n        return 2\n\n\nx = 1"
    # An answer that was indented all the same, and one with blank lines around it.
    assert selection.replaced("\n    def f(self):\n        return 2\n\n\n") == new


def test_the_file_s_own_manner_is_kept():
    whole = Selection(None, "\ufeff\r\nx = 1\r\ny = 2", 1, 3)
    assert whole.code == "\nx = 1\ny = 2"
    assert whole.replaced("x = 3\ny = 4\n") == "\ufeff\r\nx = 3\r\ny = 4"


@given(st.text(alphabet="ab \n\t\x0c\u2028é", max_size=40), st.data())
def test_code_put_back_unchanged_changes_nothing(text: str, data: st.DataObject):
    lines = text.count("\n") + (not text.endswith("\n"))
    first = data.draw(st.integers(1, max(lines, 1)))
    last = data.draw(st.integers(first, max(lines, 1)))
    selection = Selection(None, text, first, last)
    assume(selection.code.strip())  # `select` refuses the others
    new = selection.replaced(selection.code)
    # Of lines that are blank, spaces may go: nothing else.
    assert [line if line.strip() else "" for line in text.split("\n")] == [
        line if line.strip() else "" for line in new.split("\n")
    ]


@pytest.mark.parametrize("lines", ["0-1", "3-2", "5-9", "a", "1-", ""])
def test_lines_that_are_none_are_refused(tmp_path: Path, lines: str):
    (tmp_path / "a.py").write_text(CODE)
    with pytest.raises(UserError, match="--lines is"):
        select(str(tmp_path / "a.py"), lines)


def test_a_file_without_code_is_refused(tmp_path: Path):
    (tmp_path / "a.py").write_text(" \n\n")
    with pytest.raises(UserError, match="there is no code in"):
        select(str(tmp_path / "a.py"), None)
