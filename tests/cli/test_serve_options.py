"""`demiurgic serve` with an operator's limits, which come from flags, the environment and the config file alike."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cli_process import COMMAND, environment

from tests.process_group import free_port

KEY = {"SERVER_KEYS": "one two"}


@pytest.fixture(scope="module")
def guarded(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen]]:
    home = tmp_path_factory.mktemp("home")
    config = home / ".config" / "demiurgic" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[serve]\nkey_env = "SERVER_KEYS"\ncors = ["https://editor.example"]\nport = 1\n')
    port = free_port()
    settings = KEY | {"DEMIURGIC_SERVE_MAX_BODY_MIB": "0.01", "HOME": str(home)}
    command = [*COMMAND, "serve", "--port", str(port), "--model", "guarded", "--slots", "2", "--max-context", "256"]
    command += ["--int8", "--int8-cache", "--mesh", "tensor=1"]
    server = subprocess.Popen(command, cwd=workplace, env=environment(**settings), stderr=subprocess.PIPE)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        end = time.monotonic() + 240
        while server.poll() is None and time.monotonic() < end:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield url, server
    finally:
        server.kill()
        server.communicate()


def test_who_bears_no_key_is_refused_and_the_command_bears_it(demiurgic: Callable, guarded: tuple):
    url, _ = guarded
    refused = demiurgic("complete", "x", "--url", url)
    assert (refused.returncode, b"(401)" in refused.stderr) == (2, True)
    key = {"DEMIURGIC_API_KEY": "two"}
    assert demiurgic("models", "--url", url, env=key).stdout == b"guarded\n"
    assert demiurgic("complete", "x", "--url", url, "--max-tokens", "3", env=key).returncode == 0
    long = demiurgic("complete", "--url", url, env=key, stdin=b"x" * 20_000)
    assert (long.returncode, b"(413)" in long.stderr) == (2, True)
    beyond = demiurgic("complete", "--url", url, env=key, stdin=b"add return " * 300)
    assert (beyond.returncode, b"256" in beyond.stderr) == (2, True)


def test_a_page_of_the_file_s_origin_may_ask(guarded: tuple):
    url, _ = guarded
    asked = {"Origin": "https://editor.example", "Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{url}/completions", headers=asked).headers["access-control-allow-origin"] == asked["Origin"]
    other = httpx.options(f"{url}/completions", headers=asked | {"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_it_says_where_it_serves_and_ends_by_a_signal(guarded: tuple):
    url, server = guarded
    server.send_signal(signal.SIGTERM)
    _, error = server.communicate(timeout=60)
    assert server.returncode == 0
    assert f"serving guarded at {url}" in error.decode()
    assert "two" not in error.decode()


def test_a_key_s_variable_that_is_not_set_is_named_before_anything_is_loaded(demiurgic: Callable, workplace: Path):
    run = demiurgic("serve", "--key-env", "MISSING_KEYS", cwd=workplace)
    assert (run.returncode, b"MISSING_KEYS" in run.stderr) == (2, True)


def test_a_mesh_of_devices_that_are_not_there_is_refused(demiurgic: Callable, workplace: Path):
    run = demiurgic("serve", "--mesh", "tensor=3", cwd=workplace)
    assert (run.returncode, run.stdout) == (2, b"")
    assert "device" in run.stderr.decode().splitlines()[-1]


@pytest.mark.parametrize("mesh", ["tensor", "tensor=0", "rows=2", "tensor=2,tensor=2", "tensor=x"])
def test_a_mesh_that_is_none_is_refused(demiurgic: Callable, mesh: str):
    run = demiurgic("serve", "--mesh", mesh)
    assert run.returncode == 2
    assert "like fsdp=2,tensor=4" in run.stderr.decode()
