"""What an operator decides about the server: who may ask, how much, and what is written down."""

import os
from dataclasses import dataclass

from demiurgic_jax.errors import UserError

# A server that is told to end refuses new requests and lets those that run finish within this.
DRAIN_SECONDS = 30.0


@dataclass(frozen=True)
class ServerConfig:
    """`api_keys` names an environment variable that holds the keys, separated by commas or spaces, of which a request
    must bear one; None lets everybody ask. `cors_origins` are the web origins ("https://editor.example", or "*") whose
    pages may ask. A body beyond `max_body_bytes` is refused, and a request that comes while `max_queue` others wait for
    a slot. `log_prompts` writes prompts and answers into the log, which holds only counts otherwise."""

    api_keys: str | None = None
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 8 * 2**20
    max_queue: int = 256
    log_prompts: bool = False
    drain_seconds: float = DRAIN_SECONDS

    def __post_init__(self) -> None:
        for name, least in (("max_body_bytes", 1), ("max_queue", 0), ("drain_seconds", 0)):
            if not getattr(self, name) >= least:
                raise UserError(f"{name} is {getattr(self, name)}: give at least {least}")
        for origin in self.cors_origins:
            if origin != "*" and ("://" not in origin or origin.endswith("/")):
                raise UserError(f"cors_origins has {origin!r}: give origins like https://editor.example, or *")

    def read_keys(self) -> tuple[str, ...]:
        """The keys themselves. Raises UserError when the variable is not set, empty, or not ASCII."""
        if self.api_keys is None:
            return ()
        keys = tuple(os.environ.get(self.api_keys, "").replace(",", " ").split())
        if not keys:
            raise UserError(f"the environment variable {self.api_keys}, which is to hold API keys, has none: set it")
        if not all(key.isascii() for key in keys):
            raise UserError(f"the environment variable {self.api_keys} has a key that is not ASCII: choose another")
        return keys
