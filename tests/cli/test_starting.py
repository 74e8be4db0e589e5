"""The command starts at once: what it loads, and what its help and status say."""

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import COMMAND, environment
from scripted_server import scripted_server

from demiurgic_jax.cli.arguments import build_parser
from demiurgic_jax.cli.help_texts import ALL_EXAMPLES, COMMANDS

HEAVY = {"jax", "jaxlib", "flax", "numpy", "orbax", "grain", "tokenizers", "sentencepiece", "starlette"}
UNUSED = {"rich", "anyio", "trio", "h2", "asyncio"}


def modules(tmp_path: Path, *arguments: str, stdin: bytes = b"") -> set[str]:
    """The top names of every module that a process of the command has loaded at its end."""
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print('LOADED', json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
        "from demiurgic_jax.cli.main import main\n"
        f"sys.exit(main({list(arguments)!r}))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], input=stdin, cwd=tmp_path, env=environment(HOME=str(tmp_path)),
        capture_output=True, timeout=60,
    )  # fmt: skip
    (line,) = (line for line in run.stderr.decode().splitlines() if line.startswith("LOADED "))
    loaded = json.loads(line.removeprefix("LOADED "))
    assert "demiurgic_jax.cli.main" in loaded
    return {name.split(".")[0] for name in loaded}


def test_no_jax_and_nothing_heavy_is_loaded_to_talk_to_a_server(tmp_path: Path):
    answer = "```python\nx = 2\n```\n"
    with scripted_server(answers=[answer]) as server:
        for command in (["complete"], ["chat"], ["explain"], ["fix"], ["translate", "--to", "go", "--language", "c"]):
            loaded = modules(tmp_path, *command, "--url", server.url, stdin=b"x = 1\n")
            assert "httpx" in loaded
            assert not loaded & (HEAVY | UNUSED), command
        assert not modules(tmp_path, "models", "--url", server.url) & (HEAVY | UNUSED)


@pytest.mark.parametrize("arguments", [["--help"], ["config"], ["completion", "bash"], ["__complete", "bash", ""]])
def test_what_asks_nobody_loads_no_http_client_either(tmp_path: Path, arguments: list[str]):
    assert not modules(tmp_path, *arguments) & (HEAVY | UNUSED | {"httpx"})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_examples(command: str, capsys: pytest.CaptureFixture):
    from demiurgic_jax.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    help_text = capsys.readouterr().out
    assert f"  demiurgic {command}" in help_text or f"(demiurgic {command}" in help_text
    assert max(map(len, help_text.splitlines())) <= 120


def test_every_example_is_a_command_line_that_parses():
    texts = (ALL_EXAMPLES, *(each[-1] for each in COMMANDS.values()))
    # Behind a pipe or a variable, up to a remark or what is the shell's.
    behind = re.compile(r"  (?:.*[|] |[A-Z_]+=.* )?(demiurgic .*?)(?: {3}| [|<>] |$)")
    found = [behind.match(line) for text in texts for line in text.splitlines()]
    examples = [match[1] for match in found if match]
    assert len(examples) > 40
    for example in examples:
        words = shlex.split(example)[1:]
        if words[0] != "completion":
            assert build_parser().parse_args(words).command == words[0], example


def test_version_and_unknown_commands(demiurgic: Callable):
    assert demiurgic("--version").stdout.startswith(b"demiurgic 0.")
    unknown = demiurgic("complet")
    assert (unknown.returncode, unknown.stdout) == (2, b"")
    nothing = demiurgic()
    assert (nothing.returncode, b"COMMAND" in nothing.stderr) == (2, True)


def test_an_interrupt_while_it_waits_for_the_first_token_is_130(tmp_path: Path):
    with scripted_server(answers=["a b c d e f g h"], pause=5) as server:
        command = [*COMMAND, "fix", "--language", "python", "--url", server.url]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
            env=environment(),
        )  # fmt: skip
        process.stdin.write(b"x = 1\n")
        process.stdin.close()
        while not server.bodies:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stdout.read(), process.stderr.read()) == (130, b"", b"")
