"""fix, refactor and translate: the diff that is shown, the file that is written, and when neither happens."""

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pseudo_terminal import Terminal
from scripted_server import scripted_server

BROKEN = "import sys\n\n\ndef add(a, b):\n    return a - b\n\n\nprint(add(1, 2))\n"
FIXED = BROKEN.replace("a - b", "a + b")
ANSWER = f"The sign was wrong.\n\n```python\n{FIXED}```\n"
DIFF = (
    "--- a/add.py\n+++ b/add.py\n@@ -2,7 +2,7 @@\n \n \n def add(a, b):\n"
    "-    return a - b\n+    return a + b\n \n \n print(add(1, 2))\n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "add.py"
    path.write_text(BROKEN)
    path.chmod(0o754)
    return path


def test_a_fix_is_a_diff_that_patch_takes_and_the_file_is_left_alone(demiurgic: Callable, file: Path):
    with scripted_server(answers=[ANSWER]) as server:
        run = demiurgic("fix", "add.py", "--url", server.url)
    assert (run.returncode, run.stderr, run.stdout.decode()) == (0, b"", DIFF)
    assert file.read_text() == BROKEN
    assert "bug" in server.bodies[0]["messages"][0]["content"]
    subprocess.run(["patch", "-p1", "-s"], input=run.stdout, cwd=file.parent, check=True)
    assert file.read_text() == FIXED


def test_applied_it_is_written_in_one_step_with_its_permissions(demiurgic: Callable, file: Path):
    link = file.with_name("link.py")
    link.symlink_to(file.name)
    before = file.stat().st_ino
    with scripted_server(answers=[ANSWER]) as server:
        run = demiurgic("fix", "link.py", "--apply", "--url", server.url)
    assert (run.returncode, "link.py is written" in run.stderr.decode()) == (0, True)
    assert (file.read_text(), link.is_symlink(), stat.S_IMODE(file.stat().st_mode)) == (FIXED, True, 0o754)
    assert file.stat().st_ino != before  # another file took its place: no moment had half of it
    assert sorted(each.name for each in file.parent.iterdir() if each.suffix) == ["add.py", "link.py"]


@pytest.mark.parametrize(("keys", "written"), [("y\n", True), ("n\n", False), ("\n", False), ("\x04", False)])
def test_on_a_terminal_it_asks_first(file: Path, keys: str, written: bool):
    with (
        scripted_server(answers=[ANSWER]) as server,
        Terminal("fix", "add.py", "--apply", "--url", server.url, cwd=file.parent) as terminal,
    ):
        terminal.wait_for("Write add.py? [y/N]")
        assert "\x1b[32m+    return a + b" in terminal.raw  # green
        assert file.read_text() == BROKEN
        terminal.type(keys)
        assert terminal.wait() == 0
    assert (file.read_text() == FIXED) == written


def test_yes_asks_nothing_and_no_color_is_heeded(file: Path):
    with (
        scripted_server(answers=[ANSWER]) as server,
        Terminal("fix", "add.py", "--apply", "-y", "--url", server.url, cwd=file.parent, NO_COLOR="1") as terminal,
    ):
        assert terminal.wait() == 0
    assert "[y/N]" not in terminal.raw
    assert "\x1b[32m" not in terminal.raw
    assert file.read_text() == FIXED


@pytest.mark.parametrize(
    ("answer", "reason", "why"),
    [
        (ANSWER, "length", "cut off"),
        (ANSWER.removesuffix("```\n"), "stop", "has no end"),
        ("I would use a plus.", "stop", "no code block"),
    ],
)
def test_half_an_answer_is_never_written(demiurgic: Callable, file: Path, answer: str, reason: str, why: str):
    with scripted_server(answers=[answer], finish_reason=reason) as server:
        run = demiurgic("refactor", "add.py", "--apply", "--yes", "--url", server.url)
        assert (run.returncode, run.stdout) == (1, b"")
        assert why in run.stderr.decode()
        assert "nothing is written" in run.stderr.decode()
        # Who wants to see it can, and the status says the same.
        raw = demiurgic("refactor", "add.py", "--raw", "--apply", "--url", server.url)
        assert (raw.returncode, raw.stdout.decode()) == (1, answer)
        told = demiurgic("refactor", "add.py", "--json", "--apply", "--url", server.url)
        assert (told.returncode, json.loads(told.stdout)["code"]) == (1, None)
    assert file.read_text() == BROKEN


def test_a_file_that_changed_meanwhile_is_left_alone(file: Path):
    with (
        scripted_server(answers=[ANSWER]) as server,
        Terminal("fix", "add.py", "--apply", "--url", server.url, cwd=file.parent) as terminal,
    ):
        terminal.wait_for("Write add.py?")
        file.write_text("mine = 1\n")
        terminal.type("y\n")
        assert terminal.wait() == 2
    assert "was changed while" in terminal.text
    assert file.read_text() == "mine = 1\n"


def test_a_folder_that_cannot_be_written_is_named(demiurgic: Callable, tmp_path: Path):
    if os.geteuid() == 0:
        target = Path("/proc/self/comm")  # a file that even root cannot have another put in the place of
        arguments = ["translate", "--language", "go", "--to", "python", "--out", str(target), "--yes"]
    else:
        (tmp_path / "closed").mkdir(mode=0o500)
        arguments = ["translate", "--language", "go", "--to", "python", "--out", "closed/a.py"]
    with scripted_server(answers=[ANSWER]) as server:
        run = demiurgic(*arguments, "--url", server.url, stdin=b"func f() {}")
    assert (run.returncode, b"cannot be written" in run.stderr) == (2, True)


def test_some_lines_are_asked_about_and_replaced_alone(demiurgic: Callable, file: Path):
    answer = "```python\ndef add(a, b):\n    return a + b\n```"
    with scripted_server(answers=[answer]) as server:
        run = demiurgic("fix", "add.py", "--lines", "4-5", "--note", "Sums are wrong.", "--url", server.url)
    assert run.stdout.decode() == DIFF
    content = server.bodies[0]["messages"][0]["content"]
    assert "Sums are wrong." in content
    assert "print" not in content


def test_stdin_comes_back_as_code(demiurgic: Callable):
    with scripted_server(answers=[ANSWER]) as server:
        run = demiurgic("fix", "--url", server.url, stdin=BROKEN.encode())
        refused = demiurgic("fix", "--apply", "--url", server.url, stdin=BROKEN.encode())
    assert run.stdout.decode() == FIXED
    assert (refused.returncode, b"--apply writes a file" in refused.stderr) == (2, True)


def test_json_has_the_code_and_the_diff(demiurgic: Callable, file: Path):
    with scripted_server(answers=[ANSWER]) as server:
        run = demiurgic("fix", "add.py", "--json", "--apply", "--url", server.url)
    content = json.loads(run.stdout)
    assert (content["text"], content["code"], content["diff"]) == (ANSWER, FIXED, DIFF)
    assert (content["applied"], content["finish_reason"], content["completion_tokens"]) == (True, "stop", 9)
    assert file.read_text() == FIXED


def test_the_same_code_again_is_no_change(demiurgic: Callable, file: Path):
    with scripted_server(answers=[f"```python\n{BROKEN}```"]) as server:
        run = demiurgic("fix", "add.py", "--apply", "--url", server.url)
    assert (run.returncode, run.stdout) == (0, b"")
    assert b"stays as it is" in run.stderr


def test_an_answer_may_be_as_long_as_its_code_needs(demiurgic: Callable, file: Path):
    file.write_text(BROKEN * 100)
    with scripted_server(answers=[ANSWER]) as server:
        demiurgic("fix", "add.py", "--url", server.url)
        demiurgic("fix", "add.py", "--url", server.url, "-o", "max_tokens=50")
    assert server.bodies[0]["max_tokens"] > len(BROKEN * 100) / 3
    assert server.bodies[1]["max_tokens"] == 50


def test_a_translation_goes_to_stdout_or_to_a_file(demiurgic: Callable, file: Path):
    go = "func add(a int, b int) int {\n\treturn a + b\n}\n"
    with scripted_server(answers=[f"```go\n{go}```"]) as server:
        arguments = ("translate", "add.py", "--to", "Go", "--url", server.url)
        assert demiurgic(*arguments).stdout.decode() == go
        assert demiurgic(*arguments, "--out", "add.go").returncode == 0
        assert (file.parent / "add.go").read_text() == go
        again = demiurgic(*arguments, "--out", "add.go")
        assert (again.returncode, b"add.go exists" in again.stderr) == (2, True)
        assert demiurgic(*arguments, "--out", "add.go", "--yes").returncode == 0
        same = demiurgic("translate", "add.py", "--to", "py", "--url", server.url)
        assert (same.returncode, b"is Python already" in same.stderr) == (2, True)
        klingon = demiurgic("translate", "add.py", "--to", "klingon", "--url", server.url)
        assert (klingon.returncode, b"is no language" in klingon.stderr) == (2, True)
    assert "Translate this Python function to Go." in server.bodies[0]["messages"][0]["content"]
