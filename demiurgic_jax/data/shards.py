"""Shard sets: a folder of TFRecord shards, an index beside each, one manifest that is written last.

documents-train.tfrecord-00000-of-00004         records (data/records.py, data/document.py)
documents-train.tfrecord-00000-of-00004.index   offsets and lengths (data/shard_index.py)
dataset_info.json, features.json                for TensorFlow Datasets (data/tfds_files.py)
manifest.json                                   counts, checksums, tokenizer, provenance
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.document import (
    Document,
    TrainingPart,
    check_document,
    document_from_record,
    document_to_record,
    token_dtype,
    training_part,
)
from demiurgic_jax.data.files import TEMPORARY_SUFFIX, replacing
from demiurgic_jax.data.folder import open_folder
from demiurgic_jax.data.records import CorruptRecordError, frame, unframe
from demiurgic_jax.data.shard_index import (
    INDEX_SUFFIX,
    ShardIndex,
    ShardSummary,
    index_path,
    parse_index,
    read_index,
    write_index,
)
from demiurgic_jax.data.tfds_files import DATASET, FILE_FORMAT, SPLIT, tfds_files
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

FORMAT_VERSION = 1
SAMPLED_FORMAT_VERSION = 2  # of sets with sampled soft targets (data/soft_target_bytes.py)
VERIFIED_AT_ONCE = 1 << 24  # bytes
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
        self.origin = hashlib.sha256(_canonical(self._head)).hexdigest()

    def has_shard(self, shard: int) -> bool:
        """Whether this shard stands finished on disk, made from the same tokenizer and provenance."""
        path = self.path(shard)
        try:
            summary = read_index(path, _mend(self.folder)).summary
        except UserError:  # missing or damaged: to be written again, which is the mend
            return False
        return path.is_file() and summary.origin == self.origin and summary.shard_bytes == path.stat().st_size

    def write_shard(self, shard: int, documents: Iterable[Document]) -> None:
        """Writes one whole shard. Raises UserError naming the document that does not fit."""
        path = self.path(shard)
        ids = token_dtype(self._head["vocab_size"])
        summary = ShardSummary(self.origin)
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
        paths = [self.path(shard) for shard in range(self.num_shards)]
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
        if manifest["soft_target_samples"]:
            manifest["format"] = SAMPLED_FORMAT_VERSION
        manifest["checksum"] = hashlib.sha256(_canonical(manifest)).hexdigest()
        with replacing(self.folder / MANIFEST) as file:
            file.write(_canonical(manifest))
        return ShardSet(self.folder)

    def path(self, shard: int) -> Path:
        """Where shard number `shard` is, or will be."""
        return self.folder / shard_name(shard, self.num_shards)

    def _remove_leftovers(self, kept: set[str]) -> None:
        for path in self.folder.glob(f"{STEM}*"):
            if path.name.removesuffix(INDEX_SUFFIX) not in kept or path.name.endswith(TEMPORARY_SUFFIX):
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
        """`folder` is a local path or an address that fsspec reads (gs://, s3://, …).

        Checks the manifest, every index and every shard's size; records are checked as they are read.
        Raises UserError naming the file that is missing, damaged or cut short.
        """
        self.folder = folder if "://" in str(folder) else Path(folder)
        self._storage = open_folder(folder)
        try:
            sizes = self._storage.sizes()
            self.manifest = self._read_manifest(sizes)
            entries = self.manifest["shards"]
            self._names = [entry["file"] for entry in entries]
            indexes = self._read_indexes(sizes)
        except OSError as error:
            raise UserError(f"{folder} cannot be read ({error}); look after that and run again") from error
        for entry, index in zip(entries, indexes, strict=True):
            self._check_size(entry, index, sizes[entry["file"]])
        self._ids = np.dtype(self.manifest["token_dtype"]).newbyteorder("<")
        self._offsets = [index.offsets for index in indexes]
        self._first = [0, *accumulate(len(index.lengths) for index in indexes)]
        self.lengths = np.concatenate([index.lengths for index in indexes]).view(np.int32)  # tokens, [N]

    def _read_manifest(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        if not sizes:
            raise UserError(f"shard folder {self.folder} is empty or missing; make the shards first")
        if MANIFEST not in sizes:
            raise UserError(f"{self.folder} is no finished shard set ({MANIFEST} is missing); make the shards first")
        return _parse_manifest(self._storage.read([MANIFEST])[0], self.path(MANIFEST), self._mend)

    def _read_indexes(self, sizes: Mapping[str, int]) -> list[ShardIndex]:
        names = [name + INDEX_SUFFIX for name in self._names]
        for name in (*names, *self._names):
            if name not in sizes:
                raise UserError(f"{self.path(name)} is missing; {self._mend}")
        indexes = []
        for name, content, entry in zip(names, self._storage.read(names), self.manifest["shards"], strict=True):
            indexes.append(parse_index(content, self.path(name), self._mend))
            if hashlib.sha256(content).hexdigest() != entry["index_sha256"]:
                raise UserError(f"{self.path(name)} is not the one that {MANIFEST} describes; {self._mend}")
        return indexes

    def _check_size(self, entry: Mapping[str, Any], index: ShardIndex, size: int) -> None:
        path = self.path(entry["file"])
        if size < entry["bytes"]:
            record = int(np.searchsorted(index.offsets, size, side="right")) - 1
            raise UserError(f"{path} is cut short at record {record} ({size} bytes of {entry['bytes']}); {self._mend}")
        if size > entry["bytes"]:
            raise UserError(f"{path} has {size - entry['bytes']} bytes too many behind its last record; {self._mend}")

    @property
    def _mend(self) -> str:
        return _mend(self.folder)

    def path(self, name: str) -> str:
        """Where the file `name` of this folder is."""
        return f"{self.folder}/{name}"

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[type["ShardSet"], tuple[str | Path]]:
        """Another process opens the folder by itself."""
        return ShardSet, (self.folder,)

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
        """One document: one read of its bytes, checksums verified. Raises UserError naming the shard and record."""
        return document_from_record(self._record(document), self._ids)

    def read_training_part(self, document: int) -> TrainingPart:
        """As `read`, without what training does not need."""
        return training_part(self._record(document), self._ids, self.lengths.item(document))

    @property
    def reading_threads(self) -> int:
        """How many threads read best: one where the bytes are at hand, many where each request is waited for."""
        return self._storage.reading_threads

    def _record(self, document: int) -> bytes:
        if not 0 <= document < len(self):
            raise IndexError(f"document {document} of {len(self)}")
        shard = bisect_right(self._first, document) - 1
        record = document - self._first[shard]
        offsets = self._offsets[shard]
        start, stop = offsets.item(record), offsets.item(record + 1)
        try:
            return unframe(self._storage.read_range(self._names[shard], start, stop))
        except (CorruptRecordError, OSError) as error:
            raise UserError(f"{self.path(self._names[shard])}: record {record} {error}; {self._mend}") from error

    def verify(self) -> None:
        """Reads everything: every record's checksums, then each shard's SHA-256 against the manifest."""
        for document in range(len(self)):
            self.read(document)
        for entry in self.manifest["shards"]:
            digest = hashlib.sha256()
            for start in range(0, entry["bytes"], VERIFIED_AT_ONCE):
                digest.update(self._storage.read_range(entry["file"], start, start + VERIFIED_AT_ONCE))
            if digest.hexdigest() != entry["sha256"]:
                path = self.path(entry["file"])
                raise UserError(f"{path} is not the shard that {MANIFEST} describes; {self._mend}")


def _mend(folder: str | Path) -> str:
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
        total.soft_target_samples = max(total.soft_target_samples, summary.soft_target_samples)
        for counts, more in (
            (total.languages, summary.languages),
            (total.tasks, summary.tasks),
            (total.licences, summary.licences),
        ):
            for name, count in more.items():
                counts[name] = counts.get(name, 0) + count
    return {name: value for name, value in asdict(total).items() if name != "origin" and not name.startswith("shard_")}


def _parse_manifest(content: bytes, where: str, mend: str) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
        checksum = manifest.pop("checksum")
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{where} is damaged ({error}); {mend}") from error
    whole = {**manifest, "checksum": checksum}
    if _canonical(whole) != content or hashlib.sha256(_canonical(manifest)).hexdigest() != checksum:
        raise UserError(f"{where} is damaged (its checksum fails); {mend}")
    if manifest["format"] not in (FORMAT_VERSION, SAMPLED_FORMAT_VERSION):
        raise UserError(
            f"{where} has format {manifest['format']}, this version reads {FORMAT_VERSION} and "
            f"{SAMPLED_FORMAT_VERSION}; {mend}"
        )
    return whole
