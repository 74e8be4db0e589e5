"""Clients that people use, as they are: the `openai` package with asyncio, and the `llm` command."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from demiurgic_jax.data.completer import CompletionRequest, Message
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import serving
from demiurgic_jax.sampling.server_config import ServerConfig

CHAT = [{"role": "user", "content": "add"}]
KEY = "key-of-the-test"


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYS_OF_THE_TEST", KEY)
        with serving(engine, "tiny", config=ServerConfig(api_keys="KEYS_OF_THE_TEST")) as url:
            yield url


def engine_text(engine: Engine, **options) -> str:
    return "".join(piece.text for piece in engine.submit(CompletionRequest(**options)))


def test_the_asynchronous_openai_client_streams_many_answers_at_once(url: str, engine: Engine):
    async def ask(client: openai.AsyncOpenAI, seed: int) -> tuple[str, int, int]:
        stream = await client.chat.completions.create(
            model="tiny",
            messages=CHAT,
            max_tokens=12,
            temperature=0.7,
            seed=seed,
            logprobs=True,
            top_logprobs=2,
            stream=True,
            stream_options={"include_usage": True},
        )
        text, entries, used = "", 0, 0
        async for chunk in stream:
            used = chunk.usage.completion_tokens if chunk.usage else used
            for choice in chunk.choices:
                text += choice.delta.content or ""
                entries += len(choice.logprobs.content) if choice.logprobs else 0
        return text, entries, used

    async def ask_all() -> list[tuple[str, int, int]]:
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, timeout=120) as client:
            return await asyncio.gather(*(ask(client, seed) for seed in range(8)))

    for seed, (text, entries, used) in enumerate(asyncio.run(ask_all())):
        alone = {"messages": (Message("user", "add"),), "max_tokens": 12, "temperature": 0.7, "seed": seed}
        assert text == engine_text(engine, **alone)
        assert entries == used == 12


def test_the_openai_client_knows_a_refusal_by_its_kind(url: str):
    stranger = openai.OpenAI(base_url=url, api_key="another", max_retries=0)
    with stranger as client, pytest.raises(openai.AuthenticationError, match="wants an API key"):
        client.models.list()
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="temperature is -1"):
            client.completions.create(model="tiny", prompt="x", temperature=-1)
        answer = client.completions.with_raw_response.create(model="tiny", prompt="x", max_tokens=1)
        assert answer.headers["x-request-id"] == answer.parse()._request_id


def test_the_llm_command_has_the_server_as_an_extra_model(url: str, engine: Engine, tmp_path: Path):
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: tiny-chat\n  model_name: tiny\n  api_base: {url}\n  api_key_name: demiurgic\n"
        f"- model_id: tiny-raw\n  model_name: tiny\n  api_base: {url}\n  api_key_name: demiurgic\n  completion: true\n"
    )

    def llm(*arguments: str) -> str:
        finished = subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            env={**os.environ, "LLM_USER_PATH": str(tmp_path), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    assert "tiny-chat" in llm("models", "list")
    options = ["-o", "temperature", "0", "-o", "max_tokens", "12", "--key", KEY]
    chat = engine_text(engine, messages=(Message("user", "add"),), max_tokens=12)
    assert llm("-m", "tiny-chat", *options, "add").strip("\n") == chat.strip("\n")
    assert llm("-m", "tiny-chat", "--no-stream", *options, "add").strip("\n") == chat.strip("\n")
    raw = engine_text(engine, prompt="for", max_tokens=12)
    assert llm("-m", "tiny-raw", *options, "for").strip("\n") == raw.strip("\n")
