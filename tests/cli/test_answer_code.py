"""The code out of a model's answer: the right block, and never half of one."""

import pytest

from demiurgic_jax.cli.answer_code import NoCodeError, code_of, fenced_blocks
from demiurgic_jax.cli.languages import language_called

PYTHON, GO, MARKDOWN = map(language_called, ("python", "go", "markdown"))
BROKEN = "def add(a, b):\n    return a - b\n"
FIXED = "def add(a, b):\n    return a + b\n"
GO_CODE = "func add(a int, b int) int {\n\treturn a + b\n}\n"


def fence(code: str, tag: str = "python", marks: str = "```") -> str:
    return f"{marks}{tag}\n{code}{marks}\n"


@pytest.mark.parametrize(
    "answer",
    [
        fence(FIXED),
        f"The sign was wrong.\n\n{fence(FIXED)}\nIt adds now.",
        fence(FIXED, "py"),
        fence(FIXED, ""),
        fence(FIXED, "python", "~~~~"),
        fence(FIXED, "Python title=add.py"),
        f"You wrote:\n{fence(BROKEN)}\nIt should be:\n{fence(FIXED)}",
        f"{fence(FIXED)}\nTry it:\n{fence('print(add(1, 2))' + chr(10))}",
        f"{fence('pip install add' + chr(10), 'bash')}\n{fence(FIXED)}",
        f"The line is\n{fence('    return a + b' + chr(10))}\nso in whole:\n{fence(FIXED)}",
        f"<think>Perhaps\n{fence('def add(): pass' + chr(10))}</think>\n{fence(FIXED)}",
        "1. The sign:\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n",
        FIXED,
        f"\n{FIXED}",
        fence(FIXED).replace("\n", "\r\n"),
    ],
)
def test_the_code_is_found(answer: str):
    code = code_of(answer, "stop", PYTHON, BROKEN)
    assert code.replace("\r\n", "\n").strip() == FIXED.strip()


@pytest.mark.parametrize(
    ("answer", "reason", "why"),
    [
        (fence(FIXED), "length", "cut off"),
        (f"```python\n{FIXED}", "stop", "has no end"),
        (f"{fence(BROKEN)}\n```python\n{FIXED}", "stop", "has no end"),
        ("The sign is wrong: it should be a plus.", "stop", "no code block"),
        ("Done", "stop", "no code block"),
        ("", "stop", "no code block"),
        ("```python\n```\n", "stop", "no code block"),
        (fence("def add(a, b:\n    return a + b\n"), "stop", "not valid Python"),
        (fence("def add(a, b):\n    # ... rest of the code unchanged\n    return 1\n"), "stop", "leaves code out"),
        (fence("def add(a, b):\n    # existing code\n    return 1\n"), "stop", "leaves code out"),
    ],
)
def test_what_is_not_the_whole_code_is_refused(answer: str, reason: str, why: str):
    with pytest.raises(NoCodeError, match=why):
        code_of(answer, reason, PYTHON, BROKEN)


@pytest.mark.parametrize("cut", range(1, len(fence(FIXED)) - 4))
def test_an_answer_that_ends_anywhere_is_never_taken_for_a_whole_one(cut: int):
    answer = fence(FIXED)[:cut]
    with pytest.raises(NoCodeError):
        code_of(answer, "stop", PYTHON, BROKEN)


def test_python_that_was_broken_before_may_be_broken_after():
    code = "def add(a, b:\n    return a + b\n"
    assert code_of(fence(code), "stop", PYTHON, "def add(a b):\n    return a + b\n") == code


def test_a_comment_that_the_code_had_before_leaves_nothing_out():
    code = "# ... and so on\nx = 2\n"
    assert code_of(fence(code), "stop", PYTHON, "# ... and so on\nx = 1\n") == code


def test_another_language_without_a_fence_is_told_from_prose():
    assert code_of(GO_CODE, "stop", GO, GO_CODE) == GO_CODE
    with pytest.raises(NoCodeError, match="no code block"):
        code_of("This function adds two numbers.\nIt is fine as it stands.", "stop", GO, GO_CODE)


def test_a_translation_takes_the_longest_block_of_the_language():
    answer = f"{fence(FIXED)}\nbecomes\n{fence('add(1, 2)' + chr(10), 'go')}\n{fence(GO_CODE, 'go')}"
    assert code_of(answer, "stop", GO, FIXED, rewrites=False) == GO_CODE


def test_code_with_fences_of_its_own_is_not_cut_at_them():
    text = "# Title\n\n```sh\nls\n```\n\nThe end.\n"
    new = text.replace("Title", "A title")
    assert code_of(fence(new, "markdown", "````"), "stop", MARKDOWN, text) == new
    assert code_of(fence(new, "markdown", "```"), "stop", MARKDOWN, text) == new


def test_blocks_say_whether_they_were_closed():
    blocks = fenced_blocks(f"{fence('a' + chr(10), 'x')}text\n~~~~\n~~~\n```\nb\n")
    assert [(block.tag, block.code, block.closed) for block in blocks] == [
        ("x", "a\n", True),
        ("", "~~~\n```\nb\n", False),
    ]
