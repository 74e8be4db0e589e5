"""What the teacher is to be asked, and the key under which its answer is kept."""

import hashlib
import json
from dataclasses import dataclass

from demiurgic_jax.data.completer import CompletionRequest


@dataclass(frozen=True)
class TeacherRequest:
    """One task made of one seed, with the seed's provenance and licence.

    `language` is that of the answer; `version` names the prompts (see tasks/prompts.py).
    """

    task: str
    language: str
    seed_id: str
    seed_name: str
    path: str
    licence: str
    request: CompletionRequest
    version: str = ""


def request_key(model: str, request: CompletionRequest) -> str:
    """SHA-256 (hex) over everything that determines the answer: the model, the parameters and the text."""
    values = {"model": model, **request.to_dict()}
    content = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def in_shard(key: str, shard: int, shards: int) -> bool:
    """Whether the request belongs to part `shard` (from 0) of `shards`; each belongs to exactly one."""
    return int(key[:15], 16) % shards == shard
