"""TAB in real shells: what is offered, and what the line becomes."""

import shutil
import sys
from pathlib import Path

import pytest
from cli_process import ROOT, environment
from pseudo_terminal import Terminal

from demiurgic_jax.cli.arguments import build_parser
from demiurgic_jax.cli.shell_completion import FILES, SCRIPTS, offer

SHELL_OF = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
LOAD = {
    "bash": 'eval "$(demiurgic completion bash)"',
    "zsh": 'autoload -U compinit && compinit -u -D && eval "$(demiurgic completion zsh)"',
    "fish": "demiurgic completion fish | source",
}


def offered(*words: str, shell: str = "fish") -> list[str]:
    return [line.split("\t")[0] for line in offer(build_parser(), shell, list(words))]


def test_what_is_offered_where():
    assert {"complete", "fix", "completion"} <= set(offered(""))
    assert offered("tra") == ["translate"]
    assert offered("fix", "--app") == ["--apply"]
    assert offered("fix", "") == offered("complete", "--checkpoint", "") == [FILES]
    assert offered("fix", "-o", "rep") == ["repetition_penalty="]
    assert offered("translate", "a.py", "--to", "ru") == ["rust", "ruby"]
    assert offered("config", "se") == ["serve"]
    assert offered("completion", "") == ["bash", "zsh", "fish"]
    assert offered("complete", "--temperature", "") == []
    assert offered("explain", "a.py", "") == []
    assert offered("nonsense", "") == []


def test_bash_cuts_words_at_equals_signs_and_gets_its_part_alone():
    assert offered("translate", "--to", "=", "ru", shell="bash") == ["rust", "ruby"]
    assert offered("translate", "--to", "=", shell="bash")[:2] == ["python", "javascript"]
    assert offered("fix", "-o", "seed", "=", "1", "--app", shell="bash") == ["--apply"]
    assert offered("translate", "--to=ru") == ["--to=rust", "--to=ruby"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with `demiurgic` on it, as an installation puts it there."""
    script = tmp_path / "bin" / "demiurgic"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m demiurgic_jax.cli.main "$@"\n')
    script.chmod(0o755)
    return f"{script.parent}:{environment()['PATH']}"


@pytest.mark.parametrize("shell", SHELL_OF)
def test_a_real_shell_completes(tmp_path: Path, path: str, shell: str):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    (tmp_path / "only_file.py").write_text("x = 1\n")
    with Terminal(
        cwd=tmp_path, command=SHELL_OF[shell], columns=200, PATH=path, PYTHONPATH=str(ROOT), PS1="$ ", TERM="xterm"
    ) as terminal:
        terminal.type("echo re''ady\n")
        terminal.wait_for("ready")
        terminal.type(f"{LOAD[shell]}; echo lo''aded\n")
        terminal.wait_for("loaded")
        for typed, becomes in (
            ("demiurgic transl\t", "translate "),
            ("--langu\t", "--language "),
            ("pyth\t", "python "),
            ("-o rep\t", "repetition_penalty="),
            ("1.5 onl\t", "only_file.py"),
        ):
            terminal.type(typed)
            terminal.wait_for(becomes, 60)


def test_the_scripts_are_what_the_command_prints(demiurgic):
    for shell, script in SCRIPTS.items():
        assert demiurgic("completion", shell).stdout.decode() == script
    assert demiurgic("completion", "csh").returncode == 2
