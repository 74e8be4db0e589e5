"""Who may ask, how much, what is written down, and how the server ends."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import jax
import pytest
from prometheus_client.parser import text_string_to_metric_families

from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import application, serving
from demiurgic_jax.sampling.server_config import ServerConfig

# Patient: other tests may keep all cores busy.
web = httpx.Client(timeout=120)

ASK = {"prompt": "for", "max_tokens": 4, "temperature": 0}
LONG = {"prompt": "for", "max_tokens": 900, "temperature": 0}


@pytest.fixture
def root(engine: Engine) -> Iterator[str]:
    with serving(engine, "tiny") as url:
        yield url.removesuffix("/v1")


def free(engine: Engine) -> None:
    end = time.monotonic() + 30
    while (engine.active or engine.waiting) and time.monotonic() < end:
        time.sleep(0.01)
    assert (engine.active, engine.waiting) == (0, 0)


def test_without_its_key_nobody_gets_further_than_the_health(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEYS_OF_THE_TEST", "first-key, second-key")
    with serving(engine, "tiny", config=ServerConfig(api_keys="KEYS_OF_THE_TEST")) as url:
        root = url.removesuffix("/v1")
        assert [web.get(root + path).status_code for path in ("/", "/health", "/openapi.json")] == [200] * 3
        for path in ("/v1/models", "/metrics", "/nothing"):
            assert web.get(root + path).status_code == 401
        for header in ("Bearer wrong", "Bearer", "Basic first-key", "first-key", "Bearer first-key,"):
            refused = web.post(f"{url}/completions", json=ASK, headers={"Authorization": header})
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "first-key" not in refused.text
        for key in ("first-key", "second-key"):
            asked = web.post(f"{url}/completions", json=ASK, headers={"Authorization": f"Bearer {key}"})
            assert asked.status_code == 200


def test_keys_that_are_not_there_are_a_users_mistake(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KEYS_OF_THE_TEST", raising=False)
    with pytest.raises(UserError, match="KEYS_OF_THE_TEST"):
        application(engine, "tiny", ServerConfig(api_keys="KEYS_OF_THE_TEST"))
    monkeypatch.setenv("KEYS_OF_THE_TEST", " , ")
    with pytest.raises(UserError, match="KEYS_OF_THE_TEST"):
        application(engine, "tiny", ServerConfig(api_keys="KEYS_OF_THE_TEST"))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"max_queue": -1}, "max_queue"),
        ({"drain_seconds": float("nan")}, "drain_seconds"),
        ({"cors_origins": ("editor.example",)}, "cors_origins"),
        ({"cors_origins": ("https://editor.example/",)}, "cors_origins"),
    ],
)
def test_a_wrong_setting_is_named(options: dict, name: str):
    with pytest.raises(UserError, match=name):
        ServerConfig(**options)


def test_pages_of_a_named_origin_may_ask_and_others_may_not(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEYS_OF_THE_TEST", "key")
    config = ServerConfig(api_keys="KEYS_OF_THE_TEST", cors_origins=("https://editor.example",))
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with serving(engine, "tiny", config=config) as url:
        allowed = web.options(f"{url}/completions", headers={"Origin": "https://editor.example", **preflight})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://editor.example"
        other = web.options(f"{url}/completions", headers={"Origin": "https://evil.example", **preflight})
        assert "access-control-allow-origin" not in other.headers
        # A page can only read why it is refused if the refusal lets it.
        refused = web.post(f"{url}/completions", json=ASK, headers={"Origin": "https://editor.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://editor.example"


def test_a_body_of_100_megabytes_is_refused_in_both_ways_of_sending_it(root: str):
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 2**20

    for content in (b" " * (100 * 2**20), parts()):
        response = web.post(f"{root}/v1/completions", content=content)
        assert response.status_code == 413
        assert "larger than 8388608 bytes" in response.json()["error"]["message"]
    assert web.post(f"{root}/v1/completions", json=ASK).status_code == 200


def test_a_body_that_is_no_utf8_or_no_json_number_is_named(root: str):
    broken = web.post(f"{root}/v1/completions", content=b'{"prompt": "\xff"}')
    assert (broken.status_code, "not UTF-8 at byte 12" in broken.text) == (400, True)
    for text in ('{"prompt": "x", "temperature": NaN}', '{"prompt": "x", "temperature": 1e999}'):
        assert web.post(f"{root}/v1/completions", content=text).status_code == 400
    half = web.post(f"{root}/v1/completions", content=b'{"prompt": "\\ud800"}')
    assert (half.status_code, "surrogate" in half.text) == (400, True)


def test_a_full_queue_sends_the_next_away_and_says_for_how_long(engine: Engine):
    with serving(engine, "tiny", config=ServerConfig(max_queue=2)) as url, ThreadPoolExecutor(4) as pool:
        running = [pool.submit(web.post, f"{url}/completions", json=LONG | {"n": 6})]
        end = time.monotonic() + 20
        while engine.waiting < 2 and time.monotonic() < end:
            time.sleep(0.005)
        refused = web.post(f"{url}/completions", json=ASK)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert web.get(f"{url}/models").status_code == 200
        assert running[0].result().status_code == 200
        assert web.post(f"{url}/completions", json=ASK).status_code == 200
    free(engine)


def test_a_line_of_the_log_has_counts_and_no_text(engine: Engine, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "demiurgic_jax.requests"), serving(engine, "tiny") as url:
        asked = web.post(f"{url}/completions", json=ASK, headers={"X-Request-ID": "from-the-client.1"})
        odd = web.post(
            f"{url}/completions", json={"prompt": "secret text", "n": "secret"}, headers={"X-Request-ID": "a b"}
        )
        web.post(f"{url}/completions", json=ASK | {"stream": True})
        with web.stream("POST", f"{url}/completions", json=LONG | {"stream": True}) as left:
            next(left.iter_lines())
        free(engine)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "demiurgic_jax.requests"]
    assert asked.headers["x-request-id"] == lines[0]["request_id"] == "from-the-client.1"
    assert odd.headers["x-request-id"] == lines[1]["request_id"] != "a b"
    assert [line["status"] for line in lines] == [200, 400, 200, 499]
    assert [line["stream"] for line in lines] == [False, False, True, True]
    for line in (lines[0], lines[2]):
        assert (line["route"], line["completion_tokens"]) == ("/v1/completions", 4)
        assert line["prompt_tokens"] == len(engine.tokenizer.encode("for"))
        assert 0 < line["first_token_ms"] <= line["ms"]
    assert "secret" not in caplog.text


def test_prompts_and_answers_are_logged_where_that_is_asked_for(engine: Engine, caplog: pytest.LogCaptureFixture):
    config = ServerConfig(log_prompts=True)
    with caplog.at_level(logging.INFO, "demiurgic_jax.requests"), serving(engine, "tiny", config=config) as url:
        text = web.post(f"{url}/completions", json=ASK).json()["choices"][0]["text"]
        web.post(f"{url}/completions", json={"prompt": "x", "n": "many"})
    first, second = (json.loads(r.message) for r in caplog.records if r.name == "demiurgic_jax.requests")
    assert (first["prompt"], first["answer"]) == ({"prompt": "for"}, [text])
    assert "'many'" in second["error"]


def test_metrics_count_what_was_asked(engine: Engine):
    def values(root: str) -> dict:
        families = text_string_to_metric_families(web.get(f"{root}/metrics").text)
        return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}

    with serving(engine, "tiny") as url:
        root = url.removesuffix("/v1")
        before = values(root)
        web.post(f"{url}/completions", json=ASK)
        web.post(f"{url}/completions", json={})
        web.get(f"{root}/no/such/page")
        after = values(root)
    asked = ("demiurgic_http_requests_total", ("route", "/v1/completions"))
    assert (after[*asked, ("status", "200")], after[*asked, ("status", "400")]) == (1, 1)
    assert after["demiurgic_http_requests_total", ("route", "other"), ("status", "404")] == 1
    assert after["demiurgic_first_token_seconds_count", ("route", "/v1/completions")] == 1
    key = ("demiurgic_engine_generated_tokens_total",)
    assert after[key] - before[key] == 4
    assert (after["demiurgic_slots",], after["demiurgic_slots_busy",]) == (4, 0)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen, str]]:
    port = free_port()
    program = [sys.executable, str(Path(__file__).with_name("serving_process.py")), str(port), str(request.param)]
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    serving_process = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **cache}
    )
    root = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 300
        while time.monotonic() < end and serving_process.poll() is None:
            try:
                web.post(f"{root}/v1/completions", json=ASK)
                break
            except httpx.ConnectError:
                time.sleep(0.2)
        yield serving_process, root
    finally:
        serving_process.kill()
        serving_process.communicate()


@pytest.mark.parametrize("process", [600], indirect=True)
def test_sigterm_lets_what_runs_finish_and_takes_nothing_new(process: tuple[subprocess.Popen, str]):
    serving_process, root = process
    arrived = threading.Event()
    lines: list[str] = []

    def follow() -> None:
        body = LONG | {"stream": True, "n": 2, "max_tokens": 500}
        with web.stream("POST", f"{root}/v1/completions", json=body) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                arrived.set()

    with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=120) as client:
        assert client.get(f"{root}/health").json()["status"] == "ok"
        following = pool.submit(follow)
        assert arrived.wait(60)
        serving_process.send_signal(signal.SIGTERM)
        statuses = []
        end = time.monotonic() + 20
        while (status := client.get(f"{root}/health").status_code) == 200 and time.monotonic() < end:
            statuses.append(status)
        assert (status, client.get(f"{root}/health").json()["status"]) == (503, "draining")
        refused = client.post(f"{root}/v1/completions", json=ASK)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        following.result()
    assert lines[-2] == "data: [DONE]"
    stdout, stderr = serving_process.communicate(timeout=30)
    assert (serving_process.returncode, stdout) == (0, "ended\n")
    logged = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    finished = next(line for line in logged if line["stream"])
    assert (finished["status"], finished["completion_tokens"]) == (200, 2 * 500)


@pytest.mark.parametrize("process", [0.2], indirect=True)
def test_sigterm_waits_no_longer_than_it_was_told(process: tuple[subprocess.Popen, str]):
    serving_process, root = process
    body = LONG | {"stream": True, "n": 60}
    with web.stream("POST", f"{root}/v1/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        serving_process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            list(lines)
    assert serving_process.wait(120) == 0
