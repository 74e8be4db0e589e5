"""A checkpoint of a small random network, and `demiurgic serve` running on it."""

import dataclasses
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import jax
import pytest
from cli_process import COMMAND, environment

from demiurgic_jax.checkpoints.checkpoint import Card, CheckpointFolder
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.model.config import named_config
from demiurgic_jax.model.decoder import Decoder, init_params


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/tiny/train/checkpoints in it."""
    folder = tmp_path_factory.mktemp("workplace")
    tokenizer = train_sentencepiece(["def add(a, b):\n    return a + b\n" * 50], 380)
    config = dataclasses.replace(
        named_config("tiny"), vocab_size=tokenizer.vocab_size, num_layers=1, max_context=1 << 14
    )
    params = init_params(Decoder(config), jax.random.key(0))
    stops = jax.numpy.asarray(tokenizer.special.stops)
    params["embedding"] = params["embedding"].at[stops].set(0)  # never the likeliest: answers are as long as allowed
    with CheckpointFolder(folder / "runs" / "tiny" / "train" / "checkpoints") as checkpoints:
        checkpoints.save(1, params, tokenizer, Card(config))
    return folder


@pytest.fixture(scope="session")
def url(workplace: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*COMMAND, "serve", "--port", str(port)]
    server = subprocess.Popen(command, cwd=workplace, env=environment(HOME=str(workplace)))
    try:
        end = time.monotonic() + 240
        while time.monotonic() < end and server.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def demiurgic(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs the command in an empty folder (or `cwd`); `env` adds to the environment."""

    def run(*arguments: str, stdin: bytes = b"", cwd: Path = tmp_path, env: dict[str, str] | None = None):
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            cwd=cwd,
            env=environment(**{"HOME": str(tmp_path), **(env or {})}),
            capture_output=True,
            timeout=240,  # a first request compiles
        )

    return run
