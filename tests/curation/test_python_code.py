"""What counts as Python, as the beginning of Python, and as a definition."""

import random

import pytest

from demiurgic_jax.curation.python_code import begins_program, definitions, functions, parses, top_level_imports
from demiurgic_jax.curation.sources import read_folder, standard_library

BEGINNINGS = [
    "def f(x):", "def f(x):\n", "def f(x):\n    ",
    "def g", "try:\n    x = 1\n", "x = foo(ba", "x = [1,\n 2,", "x = 1 +",
    "return 'abc", "x = \"it's", "x = {'a': 1, 'b", "x='''abc\nfoo", "def f():\n    \"\"\"doc, it's", "y = f'abc{x",
    "for i in", "@foo\n", "class A(B", "if x is no", "while True:\n    if x i", "from a import b, ", "x = 1 if y",
    "if x !", "if x =", "f\"{x", "if a:\n    b\nel", "# c", "def f():\n    # comment", "lambda x", "a.b.", "x = 1\\\n",
    "isinstance(key, in", "x = 0x", "x = 1e",
]  # fmt: skip
NO_BEGINNINGS = [
    "", "  \n", "This function returns", "This function", "It's a function that", "I don't know", 'Hello """',
    'Hello """ there\nis', "```python\nx = 1\n```", "Sure! Here is the code:\n\ndef f():\n    return 1\n",
    "def f():\n    return 1 1", "x = [\n 1,\n 2 3", "foo(a b", "1 + 2)\n", "if x:\n  y\n z", "print 'hello'",
    "x = 'abc\ny = 1", "return 1 'a b", "def f():\n    return 1\n\nThis function returns one", "\0", "x = 5 $",
]  # fmt: skip


@pytest.mark.parametrize("text", BEGINNINGS)
def test_beginnings_of_programs_are_known(text):
    assert begins_program(text)


@pytest.mark.parametrize("text", NO_BEGINNINGS)
def test_prose_and_broken_code_begin_nothing(text):
    assert not begins_program(text)


def test_absurd_input_is_answered_not_raised():
    assert not parses("(" * 5000 + ")" * 5000)
    assert not begins_program("x = " + "-" * 200_000 + "1 1 1\n")


def test_real_code_cut_anywhere_begins_a_program_and_with_prose_behind_it_does_not():
    folder, licence = standard_library()
    texts = [file.text for file in read_folder(folder / "json", licence=licence)]
    texts += [(folder / name).read_text() for name in ("textwrap.py", "heapq.py", "statistics.py", "shlex.py")]
    rng = random.Random(0)
    for text in texts:
        for cut in (rng.randrange(20, len(text)) for _ in range(25)):
            assert begins_program(text[:cut]), text[max(0, cut - 80) : cut]
        for found in functions(text):
            assert begins_program(found.code)
            for prose in ("This is the function which does", "It's a function that", "Note: it does not"):
                assert not begins_program(found.code + prose)
                assert not begins_program(prose + "\n" + found.code)


SOURCE = '''"""Module."""
import os
from . import near
from collections import deque as d


@decorated(
    1
)
def first(a, b=2):
    """First.

    More.
    """
    return a


class Thing:
    def method(self):
        """Does."""
        return """kept
    as it is
"""

    async def other(self): return 1


x = 1; y = lambda: 2
def last(): pass
'''


def test_definitions_are_exact_source_segments():
    found = {each.name: each for each in definitions(SOURCE)}
    lines = SOURCE.splitlines()
    assert list(found) == ["first", "Thing", "Thing.other", "last"]  # the method's string is less indented than it
    first = found["first"]
    assert first.code == "\n".join(lines[first.start_line - 1 : first.end_line]) + "\n"
    assert first.code.startswith("@decorated(")
    assert (first.docstring, first.body_line) == ("First.\n\nMore.", 8)
    assert first.code.splitlines()[first.body_line] == "    return a"
    assert found["Thing.other"].code == "async def other(self): return 1\n"
    assert [each.kind for each in functions(SOURCE)] == ["function", "method", "function"]
    assert top_level_imports(SOURCE) == "import os\nfrom collections import deque as d\n"
