"""The `demiurgic` command as a user runs it: a process, its output and its exit status."""

import json
import os
import pty
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cli_process import COMMAND, environment

from demiurgic_jax.cli.skills import skill_prompt
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.registry import task_named
from demiurgic_jax.distillation.tasks.task import Manner

PROMPT = "def add(a, b):"


def served_text(url: str, **body) -> str:
    route, field = ("chat/completions", "message") if "messages" in body else ("completions", "text")
    choice = httpx.post(f"{url}/{route}", json={"temperature": 0, "max_tokens": 12} | body).json()["choices"][0]
    return choice["text"] if field == "text" else choice["message"]["content"]


def test_complete_prints_the_continuation_only(demiurgic: Callable, url: str):
    expected = served_text(url, prompt=PROMPT)
    run = demiurgic("complete", PROMPT, "--url", url, "--max-tokens", "12")
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.decode() in (expected, expected + "\n")


def test_echo_prints_the_prompt_first(demiurgic: Callable, url: str):
    run = demiurgic("complete", PROMPT, "--url", url, "--max-tokens", "12", "--echo")
    assert run.stdout.decode().startswith(PROMPT + served_text(url, prompt=PROMPT))


def test_the_prompt_comes_from_an_argument_a_file_or_a_pipe(demiurgic: Callable, url: str, tmp_path: Path):
    (tmp_path / "code.py").write_text(PROMPT)
    options = ["--url", url, "--max-tokens", "12"]
    outputs = [
        demiurgic("complete", PROMPT, *options),
        demiurgic("complete", "--file", "code.py", *options),
        demiurgic("complete", *options, stdin=PROMPT.encode()),
        demiurgic("complete", "-", *options, stdin=PROMPT.encode()),
    ]
    assert len({run.stdout for run in outputs}) == 1


def test_the_url_comes_from_the_environment_too(demiurgic: Callable, url: str):
    run = demiurgic("complete", PROMPT, "--max-tokens", "12", env={"DEMIURGIC_URL": url})
    assert run.stdout.decode().startswith(served_text(url, prompt=PROMPT))


def test_without_streaming_the_output_is_the_same(demiurgic: Callable, url: str):
    options = ["complete", PROMPT, "--url", url, "--temperature", "1", "--seed", "4", "--top-p", "0.9", "--top-k", "50"]
    assert demiurgic(*options).stdout == demiurgic(*options, "--no-stream").stdout != b""


def test_json_is_one_object(demiurgic: Callable, url: str):
    run = demiurgic("complete", PROMPT, "--url", url, "--max-tokens", "12", "--json")
    assert json.loads(run.stdout) == {
        "text": served_text(url, prompt=PROMPT),
        "finish_reason": "length",
        "prompt_tokens": json.loads(run.stdout)["prompt_tokens"],
        "completion_tokens": 12,
    }


def test_a_stop_string_ends_the_text(demiurgic: Callable, url: str):
    text = served_text(url, prompt=PROMPT)
    run = demiurgic("complete", PROMPT, "--url", url, "--max-tokens", "12", "--json", "--stop", text[6:9])
    assert json.loads(run.stdout)["text"] == text[: text.index(text[6:9])]


CODE = "def add(a, b):\n    return a + b\n"
SKILLS = pytest.mark.parametrize("skill", ["explain", "fix", "refactor"])


@SKILLS
def test_a_skill_asks_a_chat_about_the_code_of_a_file(demiurgic: Callable, url: str, tmp_path: Path, skill: str):
    (tmp_path / "code.py").write_text(CODE)
    run = demiurgic(skill, "code.py", "--url", url, "--max-tokens", "12")
    messages = [{"role": "user", "content": skill_prompt(skill, CODE)}]
    assert run.stdout.decode().startswith(served_text(url, messages=messages))


@SKILLS
def test_a_skill_asks_in_the_words_that_students_are_trained_with(skill: str):
    seed = Seed("0", "function", "add", "python", CODE, None, "", "add.py", 1, "MIT")
    question = task_named(skill).build(seed, random.Random(0), Manner())
    (message,) = question.messages
    code = re.search(r"```python\n(.*)```", message.content, re.DOTALL)[1]  # `fix` has broken it
    assert skill_prompt(skill, code) == message.content


def test_chat_answers_one_message(demiurgic: Callable, url: str):
    run = demiurgic("chat", "hello", "--system", "Be brief.", "--url", url, "--max-tokens", "12")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    assert run.stdout.decode().startswith(served_text(url, messages=messages))


def test_on_a_terminal_chat_remembers_what_was_said(url: str, tmp_path: Path):
    terminal, side = pty.openpty()
    command = [*COMMAND, "chat", "--url", url, "--max-tokens", "6"]
    process = subprocess.Popen(command, stdin=side, stdout=subprocess.PIPE, cwd=tmp_path, env=environment())
    os.write(terminal, b"first\nsecond\n\x04")
    output = process.communicate(timeout=60)[0].decode()
    os.close(terminal)
    os.close(side)
    assert process.returncode == 0
    messages = [{"role": "user", "content": "first"}]
    first = served_text(url, messages=messages, max_tokens=6)
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "second"}]
    second = served_text(url, messages=messages, max_tokens=6)
    assert re.search(re.escape(first) + r"\n?> " + re.escape(second), output)


def test_a_checkpoint_is_opened_in_place_and_says_the_same(demiurgic: Callable, url: str, workplace: Path):
    expected = served_text(url, prompt=PROMPT)
    newest = demiurgic("complete", PROMPT, "--max-tokens", "12", cwd=workplace)
    assert newest.stdout.decode().startswith(expected)
    assert "using runs/tiny/train/checkpoints" in newest.stderr.decode()
    named = demiurgic(
        "complete", PROMPT, "--max-tokens", "12", "--checkpoint", str(workplace / "runs/tiny/train/checkpoints")
    )
    assert named.stdout == newest.stdout


def test_serve_names_the_model_after_its_run(url: str):
    assert [model["id"] for model in httpx.get(f"{url}/models").json()["data"]] == ["tiny"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["complete", "x"], "there is no model to ask: give --url or --checkpoint"),
        (["complete", "x", "--url", "http://127.0.0.1:9/v1"], "cannot be reached"),
        (["complete", "x", "--url", "URL", "--temperature", "-1"], "temperature is -1"),
        (["complete", "x", "--url", "URL", "--model", "gpt-4"], "'gpt-4' is not served here"),
        (["complete", "x", "--file", "y", "--url", "URL"], "not both"),
        (["explain", "missing.py", "--url", "URL"], "missing.py cannot be read"),
        (["complete", "x", "--checkpoint", "nowhere"], "nowhere does not exist"),
        (["serve", "--checkpoint", "CHECKPOINT", "--port", "PORT"], "cannot listen on 127.0.0.1 port"),
        (["complete", "x", "--url", "URL", "--max-tokens", "many"], "invalid int value"),
        (["complete", "x", "--url", "URL", "--checkpoint", "CHECKPOINT"], "not allowed with"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    demiurgic: Callable, url: str, workplace: Path, arguments: list[str], sentence: str
):
    names = {
        "URL": url,
        "PORT": httpx.URL(url).netloc.decode().split(":")[1],
        "CHECKPOINT": str(workplace / "runs/tiny/train/checkpoints"),
    }
    run = demiurgic(*(names.get(argument, argument) for argument in arguments))
    error = run.stderr.decode()
    assert (run.returncode, run.stdout) == (2, b"")
    assert sentence in error.splitlines()[-1]
    assert "Traceback" not in error


def test_code_that_is_not_utf_8_is_refused(demiurgic: Callable, url: str):
    run = demiurgic("explain", "--url", url, stdin=b"x = '\xff'")
    assert (run.returncode, "is not UTF-8 at byte 5" in run.stderr.decode()) == (2, True)


def test_a_reader_that_has_enough_ends_it_quietly(url: str, tmp_path: Path):
    command = [*COMMAND, "complete", PROMPT, "--url", url, "--max-tokens", "16000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment())
    process.stdout.read(1)
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_an_interrupt_ends_it_quietly(url: str, tmp_path: Path):
    command = [*COMMAND, "complete", PROMPT, "--url", url, "--max-tokens", "16000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment())
    process.stdout.read(1)
    process.send_signal(2)
    assert (process.wait(60), process.stderr.read()) == (130, b"")


def test_help_teaches_and_imports_no_jax(demiurgic: Callable, tmp_path: Path):
    assert b"examples:" in demiurgic("--help").stdout
    # Every module that a process imports, as Python itself lists them.
    for arguments in (["--help"], ["complete", "x", "--url", "http://127.0.0.1:9/v1"]):
        listing = subprocess.run(
            [sys.executable, "-X", "importtime", *COMMAND[1:], *arguments],
            capture_output=True,
            cwd=tmp_path,
            env=environment(),
        ).stderr.decode()
        imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in listing.splitlines() if "|" in line}
        assert "httpx" in imported
        assert not imported & {"jax", "flax", "numpy"}
