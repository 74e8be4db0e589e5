"""The HTTP server over one engine: OpenAI's API, llama.cpp's /infill, a playground."""

import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.api_error import ApiError
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.guard import Gate, Guard
from demiurgic_jax.sampling.observing import Observer, requests_log
from demiurgic_jax.sampling.openapi import description
from demiurgic_jax.sampling.routes import Routes
from demiurgic_jax.sampling.server_config import ServerConfig

# For connections that a server which ends at once still has.
SHUTDOWN_SECONDS = 3
DEFAULT_CONFIG = ServerConfig()


def application(engine: Engine, model_name: str, config: ServerConfig = DEFAULT_CONFIG) -> Starlette:
    """The ASGI app. The engine must be running; it is not stopped with the app. `app.state.gate` says how many
    requests run, and refuses more once its `draining` is set.

    Raises UserError when the keys that the config names are not there.
    """
    keys, observer, gate = config.read_keys(), Observer(engine, log_prompts=config.log_prompts), Gate()
    routes = Routes(engine, model_name, observer, gate)
    document = description(model_name, with_key=bool(keys))

    async def openapi(request: Request) -> Response:
        return JSONResponse(document)

    middleware = [Middleware(Guard, engine=engine, config=config, keys=keys, observer=observer, gate=gate)]
    if config.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
        middleware.insert(0, cors)
    app = Starlette(
        routes=[
            Route("/", routes.playground),
            Route("/v1/models", routes.models),
            Route("/v1/models/{model:path}", routes.model),
            Route("/v1/completions", routes.completions, methods=["POST"]),
            Route("/v1/chat/completions", routes.chat_completions, methods=["POST"]),
            Route("/infill", routes.infill, methods=["POST"]),
            Route("/tokenize", routes.tokenize, methods=["POST"]),
            Route("/detokenize", routes.detokenize, methods=["POST"]),
            Route("/health", routes.health),
            Route("/metrics", routes.metrics),
            Route("/openapi.json", openapi),
        ],
        exception_handlers={ApiError: _refusal, HTTPException: _http_refusal},
        middleware=middleware,
    )
    app.state.gate = gate
    return app


def serve(engine: Engine, model_name: str, host: str, port: int, config: ServerConfig = DEFAULT_CONFIG) -> None:
    """Serves until interrupted, one JSON line per request on stderr. SIGTERM ends it gently: new requests get 503, and
    those that run have `config.drain_seconds` to finish.

    Raises UserError when the address cannot be had.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    app = application(engine, model_name, config)
    with _listen(host, port) as listener:
        requests_log.addHandler(handler)
        requests_log.setLevel(logging.INFO)
        requests_log.propagate = False
        try:
            _Server(app, config.drain_seconds).run(sockets=[listener])
        finally:
            requests_log.removeHandler(handler)
            requests_log.setLevel(logging.NOTSET)
            requests_log.propagate = True


@contextmanager
def serving(
    engine: Engine, model_name: str, host: str = "127.0.0.1", port: int = 0, config: ServerConfig = DEFAULT_CONFIG
) -> Iterator[str]:
    """Serves from a background thread while the block runs; gives the base URL, "http://HOST:PORT/v1".

    Port 0 takes a free one.
    """
    with _listen(host, port) as listener:
        server = _Server(application(engine, model_name, config), config.drain_seconds)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True)
        thread.start()
        try:
            # Connections queue at the listening socket until the server takes them, so nothing needs waiting for.
            yield f"http://{host}:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"cannot listen on {host} port {port} ({error}): choose another --host or --port") from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn closes its doors at SIGTERM; this one first answers at them, so that a balancer sends no one else."""

    def __init__(self, app: Starlette, drain_seconds: float) -> None:
        settings = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        super().__init__(settings)
        self._gate: Gate = app.state.gate
        self._drain_seconds = drain_seconds
        self._ends_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self._ends_at is None:
            self._gate.draining = True
            self._ends_at = time.monotonic() + self._drain_seconds
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._ends_at is not None and (self._gate.running == 0 or time.monotonic() >= self._ends_at):
            self.should_exit = True
        return await super().on_tick(counter)


async def _refusal(request: Request, error: Any) -> Response:
    request.scope["demiurgic.record"].error = str(error)
    return JSONResponse(error.content, status_code=error.status, headers=error.headers)


async def _http_refusal(request: Request, error: Any) -> Response:
    message = f"{request.method} {request.url.path}: {error.detail.lower()}"
    return JSONResponse(ApiError(error.status_code, message).content, error.status_code, headers=error.headers)
