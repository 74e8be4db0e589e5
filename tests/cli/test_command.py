"""The `demiurgic` command as a user runs it: a process, its output and its exit status."""

import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cli_process import COMMAND, environment

from demiurgic_jax.cli.languages import language_called
from demiurgic_jax.cli.skills import skill_prompt
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.registry import task_named
from demiurgic_jax.distillation.tasks.task import Manner

PROMPT = "def add(a, b):"


def served_text(url: str, **body) -> str:
    route, field = ("chat/completions", "message") if "messages" in body else ("completions", "text")
    choice = httpx.post(f"{url}/{route}", json={"temperature": 0, "max_tokens": 12} | body, timeout=60).json()[
        "choices"
    ][0]
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
PYTHON = language_called("python")


@pytest.mark.parametrize("skill", ["explain", "fix", "refactor", "translate"])
def test_a_skill_asks_a_chat_about_the_code_of_a_file(demiurgic: Callable, url: str, tmp_path: Path, skill: str):
    (tmp_path / "code.py").write_text(CODE)
    to = ["--to", "c++"] if skill == "translate" else []
    run = demiurgic(skill, "code.py", *to, "--url", url, "--max-tokens", "12", "--raw")
    messages = [{"role": "user", "content": skill_prompt(skill, CODE, PYTHON, language_called("cpp"))}]
    assert run.stdout.decode() == served_text(url, messages=messages)


SEEDS = {
    "python": CODE,
    "javascript": "function add(a, b) {\n  return a + b;\n}\n",
    "typescript": "function add(a: number, b: number): number {\n  return a + b;\n}\n",
    "go": "func add(a int, b int) int {\n\treturn a + b\n}\n",
    "rust": "fn add(a: i32, b: i32) -> i32 {\n    a + b\n}\n",
    "java": "static int add(int a, int b) {\n    return a + b;\n}\n",
    "cpp": "int add(int a, int b) {\n    return a + b;\n}\n",
}


@pytest.mark.parametrize("language", SEEDS)
@pytest.mark.parametrize("skill", ["explain", "fix", "refactor", "translate"])
def test_a_skill_asks_in_the_words_that_students_are_trained_with(skill: str, language: str):
    kind = "method" if language == "java" else "function"
    seed = Seed("0", kind, "add", language, SEEDS[language], None, "", "add", 1, "MIT")
    target = "go" if language == "rust" else "rust"
    question = task_named(skill).build(seed, random.Random(0), Manner(targets=(target,)))
    (message,) = question.messages
    code = re.search(r"```\w+\n(.*)```", message.content, re.DOTALL)[1]  # `fix` has broken it
    assert skill_prompt(skill, code, language_called(language), language_called(target)) == message.content


def test_chat_answers_one_message(demiurgic: Callable, url: str):
    run = demiurgic("chat", "hello", "--system", "Be brief.", "--url", url, "--max-tokens", "12")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    assert run.stdout.decode().startswith(served_text(url, messages=messages))


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
        (
            ["complete", "x", "--url", "URL", "--temperature", "-1"],
            "--temperature is '-1': give a number",
        ),
        (["complete", "x", "--url", "URL", "--model", "gpt-4"], "'gpt-4' is not served here"),
        (["complete", "x", "--file", "y", "--url", "URL"], "not both"),
        (["explain", "missing.py", "--url", "URL"], "missing.py cannot be read"),
        (["complete", "x", "--checkpoint", "nowhere"], "nowhere does not exist"),
        (["serve", "--checkpoint", "CHECKPOINT", "--port", "PORT"], "cannot listen on 127.0.0.1 port"),
        (["complete", "x", "--url", "URL", "--max-tokens", "many"], "--max-tokens is 'many': give a whole number"),
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


def test_a_place_in_a_file_is_filled_in_from_what_stands_around_it(demiurgic: Callable, url: str, tmp_path: Path):
    (tmp_path / "code.py").write_text(CODE + "\nadd(1, 2)\n")
    prefix, suffix = "def add(a, b):\n    return a", " + b\n\nadd(1, 2)\n"
    expected = served_text(url, prompt=prefix, suffix=suffix)
    options = ["complete", "code.py:2:13", "--url", url, "--max-tokens", "12"]
    assert demiurgic(*options, "--raw").stdout.decode() == expected
    assert demiurgic(*options, "--echo").stdout.decode() == prefix + expected + suffix
    by_hand = demiurgic("complete", prefix, "--suffix", suffix, "--url", url, "--max-tokens", "12", "--raw")
    assert by_hand.stdout.decode() == expected
    assert expected != served_text(url, prompt=prefix)


def test_a_file_longer_than_the_context_is_filled_in_from_what_is_near(demiurgic: Callable, url: str, tmp_path: Path):
    line = "x = 'a line of a file that is far too long'\n"
    (tmp_path / "long.py").write_text(line * 3000 + CODE)
    run = demiurgic("complete", "long.py:3002:13", "--url", url, "--max-tokens", "12", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["prompt_tokens"] > 8000
    refused = demiurgic("complete", "long.py:3002:13", "--url", url, "-o", "truncate=false")
    assert refused.returncode == 2
    assert b"context" in refused.stderr


def test_models_lists_what_is_served_and_what_is_here(demiurgic: Callable, url: str, workplace: Path):
    assert demiurgic("models", "--url", url).stdout == b"tiny\n"
    assert json.loads(demiurgic("models", "--url", url, "--json").stdout)["id"] == "tiny"
    here = demiurgic("models", "--json", cwd=workplace)
    assert json.loads(here.stdout)["steps"] == [1]
    assert demiurgic("models", cwd=workplace).stdout.decode().split()[:3] == ["tiny", "step", "1"]
    nothing = demiurgic("models")
    assert (nothing.returncode, b"give --url or --checkpoint" in nothing.stderr) == (2, True)


def test_the_base_of_the_api_is_found_by_itself(demiurgic: Callable, url: str):
    assert demiurgic("models", "--url", url.removesuffix("/v1")).stdout == b"tiny\n"
