"""Flags before the environment, the environment before the file, the file before the defaults; and who is told."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_server import scripted_server

from demiurgic_jax.cli.config_file import ConfigFile
from demiurgic_jax.cli.main import main
from demiurgic_jax.cli.setting_table import ASKING, SAMPLING, settings_of
from demiurgic_jax.cli.settings import resolve
from demiurgic_jax.data.completer import CompletionRequest

FILE = Path("/home/a/config.toml")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable:
    """The command in this process, which saves a second: its status and what it says on stderr."""
    for name in list(os.environ):
        if name.startswith(("DEMIURGIC_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str]:
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
        return status, capfd.readouterr().err

    return run


def resolved(command: str, given: dict, environ: dict, content: dict) -> dict:
    return resolve(command, given, environ, ConfigFile(FILE, content))


def test_each_layer_gives_way_to_the_one_before_it():
    layers = [
        ({"temperature": ("--temperature", "0.1")}, "--temperature", 0.1),
        ({"DEMIURGIC_TEMPERATURE": "0.2"}, "DEMIURGIC_TEMPERATURE", 0.2),
        ({"fix": {"temperature": 0.3}}, f"{FILE}: [fix] temperature", 0.3),
        ({"temperature": 0.4}, f"{FILE}: temperature", 0.4),
        ({}, "default", 0.0),
    ]
    for first, (_, origin, value) in enumerate(layers):
        given, environ, table, top, _ = ({} if i < first else layer for i, (layer, _, _) in enumerate(layers))
        assert resolved("fix", given, environ, top | table)["temperature"] == (value, origin)


def test_a_table_is_for_its_command_alone():
    content = {"chat": {"max_tokens": 7}}
    assert resolved("chat", {}, {}, content)["max_tokens"].value == 7
    assert resolved("complete", {}, {}, content)["max_tokens"].value == 256


@pytest.mark.parametrize(
    ("given", "environ", "content", "url"),
    [
        ({}, {"DEMIURGIC_URL": "http://e"}, {"url": "http://f"}, "http://e"),
        ({}, {"DEMIURGIC_CHECKPOINT": "c"}, {"url": "http://f"}, None),
        ({"checkpoint": ("--checkpoint", "c")}, {"DEMIURGIC_URL": "http://e"}, {}, None),
        ({"url": ("--url", "http://u")}, {"DEMIURGIC_CHECKPOINT": "c"}, {}, "http://u"),
        ({}, {"DEMIURGIC_URL": "http://e", "DEMIURGIC_CHECKPOINT": "c"}, {}, "http://e"),
        ({}, {"DEMIURGIC_URL": ""}, {"url": "http://f"}, "http://f"),
    ],
)
def test_a_checkpoint_named_closer_by_switches_the_url_off(given: dict, environ: dict, content: dict, url: str | None):
    assert resolved("chat", given, environ, content)["url"].value == url


def test_every_sampling_option_of_a_request_can_be_set():
    of_the_prompt = {"messages", "prompt", "suffix", "prompt_tokens", "echo"}
    names = set(CompletionRequest.__dataclass_fields__) - of_the_prompt
    assert {setting.name for setting in SAMPLING} == names
    for setting in SAMPLING:
        default = CompletionRequest.__dataclass_fields__[setting.name].default
        assert resolved("complete", {}, {}, {})[setting.name].value == default, setting.name


VALUES = {
    "max_tokens": 7, "temperature": 0.5, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.1,
    "frequency_penalty": 0.2, "presence_penalty": -0.5, "seed": 3, "stop": ["a", "b"],
    "stop_tokens": [1, 2], "max_seconds": 2.5, "truncate": True, "logprobs": 2,
}  # fmt: skip


def test_every_sampling_option_reaches_the_server(demiurgic: Callable):
    assert VALUES.keys() == {setting.name for setting in SAMPLING}
    options = [
        part
        for name, value in VALUES.items()
        for part in ("-o", f"{name}={json.dumps(value) if isinstance(value, list | bool) else value}")
    ]
    with scripted_server() as server:
        assert demiurgic("complete", "x", "--url", server.url, *options).returncode == 0
        from_environment = {f"DEMIURGIC_{name.upper()}": json.dumps(value) for name, value in VALUES.items()}
        assert demiurgic("complete", "x", "--url", server.url, env=from_environment).returncode == 0
        assert demiurgic("complete", "x", "--url", server.url).returncode == 0
    first, second, plain = server.bodies
    assert first == second
    for name, value in VALUES.items():
        assert first["stop_token_ids" if name == "stop_tokens" else name] == value, name
    # A server that is not ours may refuse what it does not know: what does nothing is not sent.
    assert plain.keys() == {"model", "prompt", "max_tokens", "temperature", "stream", "stream_options", "path"}


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("temperture=1", "-o temperture is unknown: did you mean temperature?"),
        ("zzz=1", "-o zzz is unknown: known are max_tokens, temperature, top_k"),
        ("temperature", "-o temperature has no value"),
        ("temperature=-1", "-o temperature is '-1': give a number of at least 0"),
        ("temperature=nan", "give a number of at least 0"),
        ("top_p=0", "-o top_p is '0': give a number above 0 and at most 1"),
        ("max_tokens=1.5", "give a whole number of at least 1"),
        ("seed=x", "-o seed is 'x': give a whole number"),
        ("truncate=perhaps", "give true or false"),
        ("stop=", "give a text, or a JSON list of texts"),
        ("stop_tokens=1,x", "give whole numbers with commas"),
        ("logprobs=21", "at most 20"),
    ],
)
def test_a_wrong_option_is_refused_by_name(here: Callable, option: str, sentence: str):
    status, error = here("complete", "x", "--url", "http://127.0.0.1:9/v1", "-o", option)
    assert status == 2
    assert sentence in error
    assert error.count("\n") == 1


CONFIG = """
url = "{url}"
temperature = 0.25

[complete]
max_tokens = 5
stop = "\\n"

[serve]
port = 8123
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / ".config" / "demiurgic" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_the_file_is_read_and_config_says_so(demiurgic: Callable, config: Path):
    with scripted_server() as server:
        config.write_text(CONFIG.format(url=server.url))
        assert demiurgic("complete", "x").returncode == 0
        assert demiurgic("complete", "x", env={"DEMIURGIC_MAX_TOKENS": "6"}).returncode == 0
    assert [(body["temperature"], body["max_tokens"], body["stop"]) for body in server.bodies] == [
        (0.25, 5, ["\n"]),
        (0.25, 6, ["\n"]),
    ]
    shown = demiurgic("config", "complete", env={"DEMIURGIC_MAX_TOKENS": "6"}).stdout.decode()
    lines = {line.split()[0]: line for line in shown.splitlines() if line}
    assert lines["temperature"].split()[1:3] == ["0.25", f"{config}:"]
    assert lines["max_tokens"].split()[1:] == ["6", "DEMIURGIC_MAX_TOKENS"]
    assert lines["top_p"].split()[1:] == ["1.0", "default"]
    as_json = json.loads(demiurgic("config", "serve", "--json").stdout)
    assert as_json["settings"]["port"] == {"value": 8123, "from": f"{config}: [serve] port"}
    assert "[complete] max_tokens" in demiurgic("config").stdout.decode()


def test_the_standard_s_place_and_one_s_own_are_heeded(demiurgic: Callable, tmp_path: Path):
    there = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert demiurgic("config", "--path", env=there).stdout.decode().strip() == str(
        tmp_path / "xdg/demiurgic/config.toml"
    )
    (tmp_path / "own.toml").write_text("seed = 5\n")
    shown = demiurgic("config", "--json", env={"DEMIURGIC_CONFIG": str(tmp_path / "own.toml")}).stdout
    assert json.loads(shown)["settings"]["seed"]["value"] == 5
    missing = demiurgic("config", env={"DEMIURGIC_CONFIG": str(tmp_path / "none.toml")})
    assert (missing.returncode, b"which does not exist" in missing.stderr) == (2, True)


def test_a_new_file_holds_every_setting_as_a_comment_and_changes_nothing(demiurgic: Callable, config: Path):
    before = json.loads(demiurgic("config", "--json").stdout)
    assert demiurgic("config", "--init").returncode == 0
    assert json.loads(demiurgic("config", "--json").stdout) == before
    text = config.read_text()
    for setting in (*settings_of(None), *settings_of("serve")):
        assert f"\n# {setting.name} = " in text
    again = demiurgic("config", "--init")
    assert (again.returncode, b"exists" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("url = ", "is not TOML"),
        ("ulr = 'x'", "ulr is unknown: did you mean url?"),
        ("[complet]\nseed = 1", "complet is unknown: did you mean complete?"),
        ("[fix]\nport = 1", "[fix] port is unknown"),
        ("fix = 1", "make it a table, [fix]"),
        ("temperature = -1", "temperature is -1: give a number of at least 0"),
        ("[serve]\nport = true", "[serve] port is True: give a whole number"),
        ("api_key = 'sk-1'", "key_env takes the variable's name"),
    ],
)
def test_a_wrong_file_is_refused_by_name_whatever_the_command(here: Callable, config: Path, text: str, sentence: str):
    config.write_text(text)
    status, error = here("complete", "x", "--url", "http://127.0.0.1:9/v1")
    assert status == 2
    assert str(config) in error
    assert sentence in error


def test_the_key_is_the_environment_s(demiurgic: Callable):
    with scripted_server() as server:
        demiurgic("complete", "x", "--url", server.url, env={"DEMIURGIC_API_KEY": "one"})
        demiurgic("complete", "x", "--url", server.url, "--key-env", "OTHER", env={"OTHER": "two"})
        demiurgic("complete", "x", "--url", server.url)
        unset = demiurgic("complete", "x", "--url", server.url, "--key-env", "OTHER")
    assert [headers.get("Authorization") for headers in server.headers] == ["Bearer one", "Bearer two", None]
    assert (unset.returncode, b"has no variable OTHER" in unset.stderr) == (2, True)


def test_the_commands_that_ask_are_those_of_the_parser():
    from demiurgic_jax.cli import help_texts

    assert set(ASKING) | {"serve", "models", "config", "completion"} == set(help_texts.COMMANDS)
