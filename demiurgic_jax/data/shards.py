"""Shard sets: a folder of TFRecord shards, an index beside each, one manifest that is written last.

documents-train.tfrecord-00000-of-00004         records (data/records.py, data/document.py)
documents-train.tfrecord-00000-of-00004.index   offsets and lengths (data/shard_index.py)
dataset_info.json, features.json                for TensorFlow Datasets (data/tfds_files.py)
manifest.json                                   counts, checksums, tokenizer, provenance
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.document import Document, check_document, document_from_record, document_to_record, token_dtype
from demiurgic_jax.data.files import TEMPORARY_SUFFIX, replacing
from demiurgic_jax.data.records import CorruptRecordError, frame, unframe
from demiurgic_jax.data.shard_index import ShardIndex, ShardSummary, index_path, read_index, write_index
from demiurgic_jax.data.tfds_files import DATASET, FILE_FORMAT, SPLIT, tfds_files
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STEM = f"{DATASET}-{SPLIT}.{FILE_FORMAT}-"


def shard_name(shard: int, num_shards: int) -> str:
    return f"{STEM}{shard:05d}-of-{num_shards:05d}"


class ShardSetWriter:
    """Writes a shard set that a kill at any moment leaves with whole shards only.

    Running again writes the missing shards and then the manifest, bit for bit as an unbroken run would.
    Shards left by another tokenizer or provenance are not taken for finished. Several processes may
    write different shards of one folder; one of them then calls `finish`.
    """

    def __init__(
        self, folder: str | Path, *, tokenizer: Tokenizer, num_shards: int, provenance: Mapping[str, Any]
    ) -> None:
        """`provenance` is JSON that says where the documents come from, down to a digest of what decides
        them: a shard on disk with the same provenance and tokenizer is taken for finished. `folder` is made."""
        if num_shards < 1:
            raise UserError(f"num_shards is {num_shards}; give at least 1")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.num_shards = num_shards
        self._head = {
            "format": FORMAT_VERSION,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "token_dtype": token_dtype(tokenizer.vocab_size).name,
            "provenance": json.loads(json.dumps(provenance)),
        }
        self._origin = hashlib.sha256(_canonical(self._head)).hexdigest()

    def has_shard(self, shard: int) -> bool:
        """Whether this shard stands finished on disk, made from the same tokenizer and provenance."""
        path = self._path(shard)
        try:
            summary = read_index(path, _mend(self.folder)).summary
        except UserError:  # missing or damaged: to be written again, which is the mend
            return False
        return path.is_file() and summary.origin == self._origin and summary.shard_bytes == path.stat().st_size

    def write_shard(self, shard: int, documents: Iterable[Document]) -> None:
        """Writes one whole shard. Raises UserError naming the document that does not fit."""
        path = self._path(shard)
        ids = token_dtype(self._head["vocab_size"])
        summary = ShardSummary(self._origin)
        offsets, lengths, digest = [0], [], hashlib.sha256()
        (self.folder / MANIFEST).unlink(missing_ok=True)
        index_path(path).unlink(missing_ok=True)
        with replacing(path) as file:
            for document in documents:
                check_document(document, self._head["vocab_size"])
                record = frame(document_to_record(document, ids))
                file.write(record)
                digest.update(record)
                summary.add(document)
                offsets.append(offsets[-1] + len(record))
                lengths.append(len(document.tokens))
        summary.shard_bytes = offsets[-1]
        summary.shard_sha256 = digest.hexdigest()
        write_index(path, ShardIndex(summary, np.array(offsets, np.uint64), np.array(lengths, np.uint32)))

    def finish(self) -> "ShardSet":
        """Writes the manifest once every shard stands, and removes what earlier runs left over."""
        missing = [shard for shard in range(self.num_shards) if not self.has_shard(shard)]
        if missing:
            raise ValueError(f"shards {missing} of {self.folder} were never written")
        paths = [self._path(shard) for shard in range(self.num_shards)]
        self._remove_leftovers({path.name for path in paths})
        summaries = [read_index(path, _mend(self.folder)).summary for path in paths]
        for name, content in tfds_files(self._head["token_dtype"], summaries).items():
            with replacing(self.folder / name) as file:
                file.write(content)
        manifest = {
            **self._head,
            **_totals(summaries),
            "shards": [_entry(*pair) for pair in zip(paths, summaries, strict=True)],
        }
        manifest["checksum"] = hashlib.sha256(_canonical(manifest)).hexdigest()
        with replacing(self.folder / MANIFEST) as file:
            file.write(_canonical(manifest))
        return ShardSet(self.folder)

    def _path(self, shard: int) -> Path:
        return self.folder / shard_name(shard, self.num_shards)

    def _remove_leftovers(self, kept: set[str]) -> None:
        for path in self.folder.glob(f"{STEM}*"):
            if path.name.removesuffix(".index") not in kept or path.name.endswith(TEMPORARY_SUFFIX):
                path.unlink()


def write_shards(
    folder: str | Path,
    documents: Sequence[Document],
    *,
    tokenizer: Tokenizer,
    num_shards: int,
    provenance: Mapping[str, Any],
) -> "ShardSet":
    """Writes `documents` in order into `num_shards` shards of nearly equal counts; skips finished shards."""
    writer = ShardSetWriter(folder, tokenizer=tokenizer, num_shards=num_shards, provenance=provenance)
    bounds = [shard * len(documents) // num_shards for shard in range(num_shards + 1)]
    for shard in range(num_shards):
        if not writer.has_shard(shard):
            writer.write_shard(shard, documents[bounds[shard] : bounds[shard + 1]])
    return writer.finish()


class ShardSet:
    """A finished shard set, open for reading. Documents are numbered 0..len-1 over the shards in order."""

    def __init__(self, folder: str | Path) -> None:
        """Checks the manifest, every index and every shard's size; records are checked as they are read.

        Raises UserError naming the file that is missing, damaged or cut short.
        """
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder)
        self._ids = np.dtype(self.manifest["token_dtype"]).newbyteorder("<")
        self._paths = [self.folder / entry["file"] for entry in self.manifest["shards"]]
        indexes = [
            self._checked_index(path, entry) for path, entry in zip(self._paths, self.manifest["shards"], strict=True)
        ]
        self._offsets = [index.offsets for index in indexes]
        self._first = np.cumsum([0] + [len(index.lengths) for index in indexes])
        self.lengths = np.concatenate([index.lengths for index in indexes]).astype(np.int32)  # tokens, [N]

    def _checked_index(self, path: Path, entry: Mapping[str, Any]) -> ShardIndex:
        mend = _mend(self.folder)
        index = read_index(path, mend)
        if _sha256(index_path(path)) != entry["index_sha256"]:
            raise UserError(f"{index_path(path)} is not the one that {MANIFEST} describes; {mend}")
        if not path.is_file():
            raise UserError(f"{path} is missing; {mend}")
        size = path.stat().st_size
        if size < entry["bytes"]:
            record = int(np.searchsorted(index.offsets, size, side="right")) - 1
            raise UserError(f"{path} is cut short at record {record} ({size} bytes of {entry['bytes']}); {mend}")
        if size > entry["bytes"]:
            raise UserError(f"{path} has {size - entry['bytes']} bytes too many behind its last record; {mend}")
        return index

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.manifest["provenance"]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the manifest, hence over every byte of every shard."""
        return self.manifest["checksum"]

    def require_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raises UserError unless the documents were encoded by this very tokenizer."""
        made_with = self.manifest["tokenizer_fingerprint"]
        if tokenizer.fingerprint != made_with:
            raise UserError(
                f"{self.folder} was made with tokenizer {made_with} but the model's tokenizer is "
                f"{tokenizer.fingerprint}; use that tokenizer or make the shards again"
            )

    def read(self, document: int) -> Document:
        """One document: one seek, checksums verified. Raises UserError naming the shard and record."""
        if not 0 <= document < len(self):
            raise IndexError(f"document {document} of {len(self)}")
        shard = int(np.searchsorted(self._first, document, side="right")) - 1
        record = document - int(self._first[shard])
        start, stop = (int(offset) for offset in self._offsets[shard][record : record + 2])
        path = self._paths[shard]
        try:
            with path.open("rb") as file:
                file.seek(start)
                data = unframe(file.read(stop - start))
        except (CorruptRecordError, OSError) as error:
            raise UserError(f"{path}: record {record} {error}; {_mend(self.folder)}") from error
        return document_from_record(data, self._ids)

    def verify(self) -> None:
        """Reads everything: every record's checksums, then each shard's SHA-256 against the manifest."""
        for document in range(len(self)):
            self.read(document)
        for path, entry in zip(self._paths, self.manifest["shards"], strict=True):
            if _sha256(path) != entry["sha256"]:
                raise UserError(f"{path} is not the shard that {MANIFEST} describes; {_mend(self.folder)}")


def _mend(folder: Path) -> str:
    return f"delete {folder} and make the shards again"


def _canonical(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(path: Path, summary: ShardSummary) -> dict[str, Any]:
    return {
        "file": path.name,
        "bytes": summary.shard_bytes,
        "sha256": summary.shard_sha256,
        "index_sha256": _sha256(index_path(path)),
        "documents": summary.documents,
        "tokens": summary.tokens,
    }


def _totals(summaries: Sequence[ShardSummary]) -> dict[str, Any]:
    total = ShardSummary("")
    for summary in summaries:
        total.documents += summary.documents
        total.tokens += summary.tokens
        total.learnt_tokens += summary.learnt_tokens
        total.soft_target_cap = max(total.soft_target_cap, summary.soft_target_cap)
        total.soft_target_positions += summary.soft_target_positions
        for counts, more in (
            (total.languages, summary.languages),
            (total.tasks, summary.tasks),
            (total.licences, summary.licences),
        ):
            for name, count in more.items():
                counts[name] = counts.get(name, 0) + count
    return {name: value for name, value in asdict(total).items() if name != "origin" and not name.startswith("shard_")}


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is no finished shard set ({MANIFEST} is missing); make the shards first")
    content = path.read_bytes()
    try:
        manifest = json.loads(content)
        checksum = manifest.pop("checksum")
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); {_mend(folder)}") from error
    whole = {**manifest, "checksum": checksum}
    if _canonical(whole) != content or hashlib.sha256(_canonical(manifest)).hexdigest() != checksum:
        raise UserError(f"{path} is damaged (its checksum fails); {_mend(folder)}")
    if manifest["format"] != FORMAT_VERSION:
        raise UserError(f"{path} has format {manifest['format']}, this version reads {FORMAT_VERSION}; {_mend(folder)}")
    return whole
