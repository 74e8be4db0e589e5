"""`demiurgic serve`: a checkpoint behind the HTTP server, with the operator's limits."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from demiurgic_jax.cli.settings import Resolved
from demiurgic_jax.cli.source import find_checkpoint, model_name
from demiurgic_jax.cli.terminal import note
from demiurgic_jax.errors import UserError


def serve(settings: Mapping[str, Resolved]) -> int:
    """Serves until interrupted."""
    value: dict[str, Any] = {name: each.value for name, each in settings.items()}
    # Looked for before JAX is loaded and a checkpoint read.
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"serving needs the package {package}: pip install 'demiurgic_jax[serve]'")
    from demiurgic_jax.sampling.server_config import ServerConfig

    config = ServerConfig(
        api_keys=value["key_env"],
        cors_origins=value["cors"],
        max_body_bytes=int(value["max_body_mib"] * 2**20),
        max_queue=value["max_queue"],
        log_prompts=value["log_prompts"],
        drain_seconds=value["drain_seconds"],
    )
    config.read_keys()
    checkpoint = find_checkpoint(value["checkpoint"])
    name = value["model"] or model_name(checkpoint)

    import jax.numpy as jnp

    from demiurgic_jax.sampling.opening import mesh_of, open_engine
    from demiurgic_jax.sampling.server import serve as serve_engine

    served = open_engine(
        checkpoint,
        slots=value["slots"],
        max_context=value["max_context"],
        compute_dtype=jnp.dtype(value["dtype"]),
        int8_weights=value["int8"],
        int8_cache=value["int8_cache"],
        mesh=mesh_of(dict(value["mesh"])),
    )
    if value["warm_up"]:
        note("compiling what requests can need")
        served.warm_up()
    with served as engine:
        host = f"[{value['host']}]" if ":" in value["host"] else value["host"]
        note(f"serving {name} at http://{host}:{value['port']}/v1 (Ctrl-C ends it)")
        serve_engine(engine, name, value["host"], value["port"], config)
    return 0
