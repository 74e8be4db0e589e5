"""The index beside each shard: where every record lies, how long it is, and what the shard holds in sum.

Layout, little-endian: magic [8 bytes], size of the summary uint32, summary (JSON), number of records n
uint64, offsets uint64 [n+1], lengths in tokens uint32 [n], CRC-32C of all that uint32.
"""

import json
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from demiurgic_jax.data.document import Document, soft_target_cap
from demiurgic_jax.data.files import replacing
from demiurgic_jax.data.records import masked_crc32c
from demiurgic_jax.errors import UserError

MAGIC = b"DMGIDX\x00\x01"
INDEX_SUFFIX = ".index"


@dataclass
class ShardSummary:
    """What one shard holds. `origin` digests what it was made from, so that a stale one is known."""

    origin: str
    documents: int = 0
    tokens: int = 0
    learnt_tokens: int = 0
    languages: dict[str, int] = field(default_factory=dict)  # documents per language
    tasks: dict[str, int] = field(default_factory=dict)
    licences: dict[str, int] = field(default_factory=dict)
    soft_target_cap: int = 0
    soft_target_positions: int = 0
    soft_target_samples: int = 0  # the K of sampled soft targets, 0 where they are truncated
    shard_bytes: int = 0
    shard_sha256: str = ""

    def add(self, document: Document) -> None:
        self.documents += 1
        self.tokens += len(document.tokens)
        mask = document.loss_mask
        self.learnt_tokens += len(document.tokens) if mask is None else int(np.count_nonzero(mask))
        self.languages[document.language] = self.languages.get(document.language, 0) + 1
        self.tasks[document.task] = self.tasks.get(document.task, 0) + 1
        self.licences[document.licence] = self.licences.get(document.licence, 0) + 1
        self.soft_target_cap = max(self.soft_target_cap, soft_target_cap(document))
        if document.soft_targets is not None:
            self.soft_target_positions += int(np.count_nonzero(document.soft_targets.counts))
            self.soft_target_samples = max(self.soft_target_samples, document.soft_targets.samples)


@dataclass(frozen=True)
class ShardIndex:
    """An index in memory."""

    summary: ShardSummary
    offsets: np.ndarray  # uint64 [n+1], bytes; the last is the size of the shard
    lengths: np.ndarray  # uint32 [n], tokens


def index_path(shard: Path) -> Path:
    return shard.with_name(shard.name + INDEX_SUFFIX)


def write_index(shard: Path, index: ShardIndex) -> None:
    summary = json.dumps(asdict(index.summary), sort_keys=True).encode()
    body = b"".join(
        [
            MAGIC,
            struct.pack("<I", len(summary)),
            summary,
            struct.pack("<Q", len(index.lengths)),
            index.offsets.astype("<u8").tobytes(),
            index.lengths.astype("<u4").tobytes(),
        ]
    )
    with replacing(index_path(shard)) as file:
        file.write(body + struct.pack("<I", masked_crc32c(body)))


def parse_index(content: bytes, where: str, mend: str) -> ShardIndex:
    """The index that `content` is. Raises UserError, which names `where` and ends with `mend`, when it is damaged."""
    body = content[:-4]
    if not content.startswith(MAGIC) or struct.pack("<I", masked_crc32c(body)) != content[-4:]:
        raise UserError(f"{where} is damaged (its checksum fails); {mend}")
    (summary_bytes,) = struct.unpack_from("<I", body, len(MAGIC))
    at = len(MAGIC) + 4
    summary = ShardSummary(**json.loads(body[at : at + summary_bytes]))
    at += summary_bytes
    (records,) = struct.unpack_from("<Q", body, at)
    offsets = np.frombuffer(body, "<u8", records + 1, at + 8)
    lengths = np.frombuffer(body, "<u4", records, at + 8 + offsets.nbytes)
    return ShardIndex(summary, offsets, lengths)


def read_index(shard: Path, mend: str) -> ShardIndex:
    """Raises UserError, which ends with `mend`, when the index of `shard` is missing or damaged."""
    path = index_path(shard)
    if not path.is_file():
        raise UserError(f"{path} is missing; {mend}")
    return parse_index(path.read_bytes(), str(path), mend)
