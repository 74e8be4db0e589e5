"""One training document, and how a record holds it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from demiurgic_jax.data.soft_target_bytes import soft_targets_from_bytes, soft_targets_to_bytes
from demiurgic_jax.data.soft_targets import SoftTargets
from demiurgic_jax.data.tf_example import (
    features_alone,
    first_feature,
    next_feature,
    parse_features,
    serialize_features,
)
from demiurgic_jax.errors import UserError

# A certain entry's, rounded to sixteen bits by whoever made it.
MOST_LOGPROB = 2e-3


@dataclass(frozen=True)
class Document:
    """Tokens that belong together, and where they come from.

    `loss_mask[i]` 1 means that token i is learnt (as a target); None means that all are. Without
    `soft_targets` the document has no teacher distribution.
    """

    key: str
    language: str
    task: str
    tokens: np.ndarray  # integer [n]
    loss_mask: np.ndarray | None = None  # uint8 [n]
    soft_targets: SoftTargets | None = None
    licence: str = "unknown"


# Documents with this task are code and nothing else: what may be cut into a prefix, a middle and a suffix.
CODE = "code"


class TrainingPart(NamedTuple):
    """What a training step needs of a document."""

    tokens: np.ndarray  # unsigned integer [n]
    loss_mask: np.ndarray | None  # uint8 [n]; None: all 1
    soft_targets: SoftTargets | None
    is_code: bool  # its task is CODE


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32, little-endian, that holds every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def check_document(document: Document, vocab_size: int) -> None:
    """Raises UserError when the parts of `document` do not fit together or exceed the vocabulary."""
    tokens, mask, soft = document.tokens, document.loss_mask, document.soft_targets
    problem = None
    if len(tokens) == 0:
        problem = "has no tokens; leave it out"
    elif tokens.min() < 0 or tokens.max() >= vocab_size:
        problem = (
            f"has token ids from {tokens.min()} to {tokens.max()} but the tokenizer has {vocab_size}; "
            "encode it with that tokenizer"
        )
    elif mask is not None and len(mask) != len(tokens):
        problem = f"has {len(tokens)} tokens but a loss_mask of {len(mask)}; give one entry per token"
    elif soft is not None and len(soft) != len(tokens):
        problem = f"has {len(tokens)} tokens but soft targets for {len(soft)}; give one position per token"
    elif soft is not None and not (soft.logprobs.astype(np.float32) <= MOST_LOGPROB).all():
        problem = "has soft targets that are no log-probabilities (NaN, or above 0); look after the teacher"
    elif soft is not None and (soft.ids.size and soft.ids.max() >= vocab_size):
        problem = (
            f"has soft targets beyond the {vocab_size} ids of the tokenizer; use a teacher with the same vocabulary"
        )
    if problem:
        raise UserError(f"document {document.key!r} {problem}")


def document_to_record(document: Document, ids: np.dtype) -> bytes:
    """Every feature is always there, so that readers need no defaults; an empty one means absent."""
    mask = document.loss_mask
    soft = document.soft_targets
    counts, entries, logprobs = (b"", b"", b"") if soft is None else soft_targets_to_bytes(soft, ids)
    features = {
        "key": document.key.encode(),
        "language": document.language.encode(),
        "task": document.task.encode(),
        "licence": document.licence.encode(),
        "tokens": document.tokens.astype(ids).tobytes(),
        "loss_mask": b"" if mask is None or np.all(mask) else np.asarray(mask, np.uint8).tobytes(),
        "teacher_counts": counts,
        "teacher_ids": entries,
        "teacher_logprobs": logprobs,
    }
    return serialize_features(features)


def document_from_record(record: bytes, ids: np.dtype) -> Document:
    """Inverse of `document_to_record`; a loss_mask of ones comes back as None."""
    features = parse_features(record)
    tokens = np.frombuffer(features["tokens"], ids).astype(np.int32)
    teacher = features["teacher_counts"], features["teacher_ids"], features["teacher_logprobs"]
    return Document(
        key=features["key"].decode(),
        language=features["language"].decode(),
        task=features["task"].decode(),
        licence=features["licence"].decode(),
        tokens=tokens,
        loss_mask=np.frombuffer(features["loss_mask"], np.uint8) if features["loss_mask"] else None,
        soft_targets=soft_targets_from_bytes(*teacher, ids, len(tokens)),
    )


_NO_MASK = features_alone({"loss_mask": b""})
_NO_TEACHER = features_alone({"teacher_counts": b"", "teacher_ids": b"", "teacher_logprobs": b""})
_CODE_TASK = features_alone({"task": CODE.encode()})


def training_part(record: bytes, ids: np.dtype, length: int) -> TrainingPart:
    """`document_from_record` for training alone, of a document with `length` tokens.

    A document without mask and teacher, as nearly all of a corpus are, is not parsed: features stand in the order of
    their names, so three are skipped, four must be empty, and what follows is the tokens.
    Parsing took half of the time that a loader needs.
    """
    at = first_feature(record)
    for _ in ("key", "language", "licence"):
        at = next_feature(record, at)
    if record.startswith(_NO_MASK, at):
        task = at + len(_NO_MASK)
        if record.startswith(_NO_TEACHER, next_feature(record, task)):
            tokens = np.frombuffer(record, ids, length, len(record) - length * ids.itemsize)
            return TrainingPart(tokens, None, None, record.startswith(_CODE_TASK, task))
    document = document_from_record(record, ids)
    return TrainingPart(document.tokens, document.loss_mask, document.soft_targets, document.task == CODE)


def soft_target_cap(document: Document) -> int:
    """The most entries that any position of the document has."""
    if document.soft_targets is None:
        return 0
    return int(document.soft_targets.counts.max(initial=0))
