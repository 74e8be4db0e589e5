"""Conversations and answers on a terminal: what a person types and sees."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import COMMAND, environment
from pseudo_terminal import Terminal
from rich.console import Console
from rich.markdown import Markdown
from scripted_server import scripted_server

from demiurgic_jax.cli.markdown import complete_blocks

MARKDOWN = "# A *title*\n\nSome `code` and:\n\n- one\n- two\n\n```python\nx = 1\n```\n\nThe end.\n"


def contents(body: dict) -> list[str]:
    return [message["content"] for message in body["messages"]]


def chats(home: Path) -> list[Path]:
    return sorted((home / ".local/state/demiurgic/chats").glob("*.jsonl"))


def test_a_conversation_is_remembered_kept_and_gone_on_with(demiurgic: Callable, tmp_path: Path):
    with scripted_server(answers=["one", "two", "three", "four"]) as server:
        with Terminal("chat", "--system", "Be brief.", "--url", server.url, cwd=tmp_path) as terminal:
            terminal.wait_for("> ")
            terminal.type("first\n")
            terminal.wait_for("one")
            terminal.wait_for("> ")
            terminal.type("second\n")
            terminal.wait_for("two")
            terminal.wait_for("> ")
            terminal.type("\x04")
            assert terminal.wait() == 0
        assert contents(server.bodies[1]) == ["Be brief.", "first", "one", "second"]
        (kept,) = chats(tmp_path)
        assert [json.loads(line)["content"] for line in kept.read_text().splitlines()] == [
            "Be brief.", "first", "one", "second", "two",
        ]  # fmt: skip
        assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        run = demiurgic("chat", "third", "--continue", "--url", server.url)
        assert run.stdout == b"three\n"
        assert contents(server.bodies[2]) == ["Be brief.", "first", "one", "second", "two", "third"]
        demiurgic("chat", "fourth", "--resume", kept.stem[:6], "--url", server.url)
        assert len(contents(server.bodies[3])) == 8
    listed = demiurgic("chat", "--list")
    assert listed.stdout.decode().split()[0] == kept.stem
    assert "4 questions  first" in listed.stdout.decode()
    unknown = demiurgic("chat", "x", "--resume", "nothing", "--url", server.url)
    assert (unknown.returncode, b"'nothing' is no chat" in unknown.stderr) == (2, True)


def test_a_pipe_leaves_nothing_behind_and_no_history_neither(demiurgic: Callable, tmp_path: Path):
    with scripted_server() as server:
        assert demiurgic("chat", "--url", server.url, stdin=b"hello").returncode == 0
        with Terminal("chat", "--no-history", "--url", server.url, cwd=tmp_path) as terminal:
            terminal.wait_for("> ")
            terminal.type("first\n")
            terminal.wait_for("ok")
            terminal.type("/exit\n")
            assert terminal.wait() == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_message_may_have_many_lines(tmp_path: Path):
    typed = ['"""first\n', "  line\n", 'last"""\n', "a\\\n", "b\n", "```\n", "c\n", "```\n", "\x1b[200~x\ny\x1b[201~\n"]
    with scripted_server() as server, Terminal("chat", "--url", server.url, cwd=tmp_path) as terminal:
        for part, line in enumerate(typed):
            terminal.wait_for("\n. " if part in (1, 2, 4, 6, 7) else "\n> ")
            terminal.type(line)
        terminal.wait_for("\nok")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.wait() == 0
    assert [contents(body)[-1] for body in server.bodies] == ["first\n  line\nlast", "a\nb", "```\nc\n```", "x\ny"]


def test_the_commands_of_a_conversation(tmp_path: Path):
    (tmp_path / "tool.py").write_text("x = 1\n")
    answers = ["one", "two", "three", "four\n```python\nz = 1\n```\n", "five"]
    with scripted_server(answers=answers) as server, Terminal("chat", "--url", server.url, cwd=tmp_path) as terminal:

        def say(line: str, shown: str) -> None:
            terminal.wait_for("> ")
            terminal.type(line + "\n")
            terminal.wait_for(shown)

        say("/help", "/retry")
        say("/hlep", "did you mean help?")
        say("/set temperature=0.5", "")
        say("/set temperature=-1", "/set temperature is '-1'")
        say("/system Be brief.", "the system's message is: Be brief.")
        say("first", "one")
        say("/retry", "two")
        say("/undo", "taken back")
        say("/file tool.py", "goes with your next message")
        say("what is it?", "three")
        say("//slash", "four")
        say("/code", "z = 1")
        say("/code new.py", "new.py is written")
        say("/save talk.md", "talk.md is written")
        say("/new", "a new chat")
        say("alone", "five")
        say("/quit", "")
        assert terminal.wait() == 0
    assert [contents(body) for body in server.bodies] == [
        ["Be brief.", "first"],
        ["Be brief.", "first"],
        ["Be brief.", "tool.py:\n\n```python\nx = 1\n```\n\nwhat is it?"],
        ["Be brief.", "tool.py:\n\n```python\nx = 1\n```\n\nwhat is it?", "three", "/slash"],
        ["Be brief.", "alone"],
    ]
    assert server.bodies[0]["temperature"] == 0.5
    assert (tmp_path / "new.py").read_text() == "z = 1\n"
    assert "## user\n\n/slash" in (tmp_path / "talk.md").read_text()
    assert len(chats(tmp_path)) == 2


def test_an_answer_can_be_stopped_and_the_conversation_goes_on(tmp_path: Path):
    long = "word " * 400
    with (
        scripted_server(answers=[long, "after"], pause=0.05) as server,
        Terminal("chat", "--url", server.url, cwd=tmp_path) as terminal,
    ):
        terminal.wait_for("> ")
        terminal.type("first\n")
        terminal.wait_for("word word")
        terminal.type("\x03")
        terminal.wait_for("stopped")
        terminal.wait_for("> ")
        terminal.type("second\n")
        terminal.wait_for("after")
        terminal.wait_for("> ")
        time.sleep(1)  # Python's readline does not see a signal that comes before it waits for keys
        terminal.type("\x03")
        terminal.wait_for("Ctrl-C again")
        terminal.wait_for("> ")
        time.sleep(1)
        terminal.type("\x03")
        assert terminal.wait() == 130
    first, said, second = contents(server.bodies[1])
    assert (first, second) == ("first", "second")
    assert long.startswith(said)
    assert 0 < len(said) < len(long)


def test_an_error_does_not_end_the_conversation(tmp_path: Path):
    with (
        scripted_server(refused=frozenset({"top_k"})) as server,
        Terminal("chat", "--url", server.url, "-o", "top_k=3", cwd=tmp_path) as terminal,
    ):
        terminal.wait_for("> ")
        terminal.type("first\n")
        terminal.wait_for("Unrecognized request argument supplied: top_k")
        terminal.type("/set top_k=0\n")
        terminal.type("second\n")
        terminal.wait_for("ok")
    assert contents(server.bodies[0]) == ["second"]


def test_markdown_is_drawn_on_a_terminal_alone(demiurgic: Callable, tmp_path: Path):
    with scripted_server(answers=[MARKDOWN]) as server:
        command = ("chat", "hello", "--url", server.url)
        assert demiurgic(*command).stdout.decode() == MARKDOWN
        for more in ([], ["--no-stream"]):
            with Terminal(*command, *more, cwd=tmp_path) as terminal:
                assert terminal.wait() == 0
            assert " • one" in terminal.text
            assert "```" not in terminal.text
            assert "\x1b[" in terminal.raw
        with Terminal(*command, "--raw", cwd=tmp_path) as terminal:
            assert terminal.wait() == 0
        assert terminal.raw.replace("\r\n", "\n") == MARKDOWN
        with Terminal(*command, cwd=tmp_path, TERM="dumb") as terminal:
            assert terminal.wait() == 0
        assert terminal.raw.replace("\r\n", "\n") == MARKDOWN
        with Terminal(*command, cwd=tmp_path, NO_COLOR="1") as terminal:
            assert terminal.wait() == 0
        assert "\x1b[3" not in terminal.raw.replace("\x1b[3m", "")  # italics are no colour
        assert "\x1b[4" not in terminal.raw.replace("\x1b[4m", "")


@pytest.mark.parametrize("where", ["pipe", "terminal"])
def test_tokens_are_shown_as_they_arrive(tmp_path: Path, where: str):
    words = "one two three four five six seven eight nine ten"
    with scripted_server(answers=[words], pause=0.5) as server:
        if where == "terminal":
            with Terminal("chat", "hello", "--url", server.url, cwd=tmp_path) as terminal:
                terminal.wait_for("one two")
                assert "ten" not in terminal.text
                assert len(server.bodies) == 1
                assert terminal.wait() == 0
            assert terminal.text.rstrip().endswith("ten")
            return
        process = subprocess.Popen(
            [*COMMAND, "complete", "x", "--url", server.url], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
        )
        assert process.stdout.read(4) == b"one "
        assert process.poll() is None
        assert process.stdout.read().decode() == words[4:] + "\n"
        assert process.wait(30) == 0


def test_a_command_on_a_terminal_without_its_input_says_what_it_wants(tmp_path: Path):
    with Terminal("fix", "--url", "http://127.0.0.1:9/v1", cwd=tmp_path) as terminal:
        assert terminal.wait() == 2
    assert "give the code: as an argument, a file, or through a pipe" in terminal.text


def test_without_a_terminal_for_its_answers_the_prompt_goes_elsewhere(tmp_path: Path):
    with scripted_server(answers=["one"]) as server:
        program = [sys.executable, "-c", "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"]
        pipe = [*program, *COMMAND[1:], "chat", "--no-history", "--url", server.url]
        shell = ["sh", "-c", '"$@" | cat > out.txt', "sh", *pipe]
        with Terminal(cwd=tmp_path, command=shell) as terminal:
            terminal.wait_for("> ")
            terminal.type("first\n")
            terminal.wait_for("> ")
            terminal.type("\x04")
            assert terminal.wait() == 0
    assert (tmp_path / "out.txt").read_text() == "one\n"


def test_markdown_drawn_block_by_block_looks_as_it_does_whole():
    def drawn(text: str) -> str:
        console = Console(width=80, file=io.StringIO())
        console.print(Markdown(text))
        return console.file.getvalue()

    for text in (
        MARKDOWN,
        "One.\n\nTwo,\nstill two.\n\n1. a\n\n   more of a\n\n2. b\n\n> q\n\n~~~\n\nx\n\n```\n~~~\n\nEnd.\n",
    ):
        blocks, rest = [], ""
        for character in text:
            done, rest = complete_blocks(rest + character)
            blocks += [done] if done else []
        assert "".join(blocks) + rest == text
        assert len(blocks) > 1
        assert "\n".join(map(drawn, [*blocks, rest])) == drawn(text)
