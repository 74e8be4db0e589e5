"""Over TLS the server chooses: HTTP/2 with many requests on one connection, or HTTP/1.1 with a connection for each."""

import asyncio
import contextlib
import json
import socket
import threading

import pytest
import trustme
from asking_process import ask
from faulty_server import answer_to
from hypercorn.asyncio import serve
from hypercorn.config import Config


class TlsTeacher:
    """An ASGI application that answers, and keeps HTTP version and client port of every request."""

    def __init__(self):
        self.seen: list[tuple[str, int]] = []

    async def __call__(self, scope, receive, send):
        content, more = b"", True
        while more:
            event = await receive()
            content, more = content + event.get("body", b""), event.get("more_body", False)
        self.seen.append((scope["http_version"], scope["client"][1]))
        await asyncio.sleep(0.05)
        answer = json.dumps(answer_to(json.loads(content), "answer", scope["path"])).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@contextlib.contextmanager
def serving_tls(folder, alpn):
    """The base URL, and the application behind it; the environment has to trust `folder`/ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    teacher, loop, config = TlsTeacher(), asyncio.new_event_loop(), Config()
    config.certfile = config.keyfile = str(folder / "server.pem")
    config.alpn_protocols, config.errorlog = alpn, None
    listening = socket.create_server(("127.0.0.1", 0))
    port, config.bind = listening.getsockname()[1], [f"fd://{listening.detach()}"]
    over = asyncio.Event()
    running = serve(teacher, config, shutdown_trigger=over.wait)
    thread = threading.Thread(target=loop.run_until_complete, args=(running,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{port}/v1", teacher
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


@pytest.mark.parametrize(("alpn", "version"), [(["h2", "http/1.1"], "2"), (["http/1.1"], "1.1")])
def test_what_the_server_speaks_is_spoken(tmp_path, monkeypatch, alpn, version):
    with serving_tls(tmp_path, alpn) as (url, teacher):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        asked = asyncio.run(ask(url, tmp_path / "l.sqlite", 60, 100.0, concurrency=20))
    assert asked.answered == asked.attempts == len(teacher.seen) == 60
    assert {seen for seen, _ in teacher.seen} == {version}
    connections = len({port for _, port in teacher.seen})
    assert connections == 1 if version == "2" else 10 <= connections <= 20
