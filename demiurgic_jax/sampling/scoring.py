"""What a model thinks of text that is already there: an open teacher's soft targets, and a prompt's log-probabilities.

Shape suffixes: B rows, S row length, C tokens of a chunk, N chunks, E embed, V vocab,
K entries per position.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.shards import ShardSet, ShardSetWriter
from demiurgic_jax.data.soft_targets import MAX_ENTRIES, SoftTargets, truncate_top_p
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder

# Row lengths are multiples of this, and logits exist for this many tokens at once.
CHUNK_TOKENS = 64
# Tokens per forward pass, padding included, as far as one row does not take more.
BATCH_TOKENS = 1024


class Scores(NamedTuple):
    """Of each position: the log-probability of `targets` there, and the K likeliest next tokens."""

    logprobs: Any  # float32 [B, S]
    top_ids: Any  # int32 [B, S, K]
    top_logprobs: Any  # float32 [B, S, K], descending


class _Piece(NamedTuple):
    """Tokens start..stop-1 of a document, scored in a context of their own."""

    document: int
    start: int
    stop: int


@partial(jax.jit, static_argnums=(0, 4))
def score_rows(decoder: Decoder, params: Any, tokens_BS: jax.Array, targets_BS: jax.Array, k: int) -> Scores:
    """One forward pass; rows start at position 0, padding is at their ends, and S is a multiple of
    CHUNK_TOKENS. Log-softmax in float32, a chunk of tokens at a time."""
    B, S = tokens_BS.shape
    positions_BS = jnp.broadcast_to(jnp.arange(S, dtype=jnp.int32), (B, S))
    hidden_BSE, _ = decoder.apply({"params": params}, tokens_BS, positions_BS)

    def chunk(parts: tuple[jax.Array, jax.Array]) -> Scores:
        hidden_CE, targets_C = parts
        logits_CV: Any = decoder.apply({"params": params}, hidden_CE, method="unembed")
        normalizer_C1 = jax.nn.logsumexp(logits_CV, axis=-1, keepdims=True)
        own_C1 = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=-1)
        top_CK, ids_CK = jax.lax.top_k(logits_CV, k)
        return Scores((own_C1 - normalizer_C1)[:, 0], ids_CK, top_CK - normalizer_C1)

    hidden_NCE = hidden_BSE.reshape(-1, CHUNK_TOKENS, hidden_BSE.shape[-1])
    scores = jax.lax.map(chunk, (hidden_NCE, targets_BS.reshape(-1, CHUNK_TOKENS)))
    return jax.tree.map(lambda x: x.reshape(B, S, *x.shape[2:]), scores)


def prompt_logprobs(
    config: ModelConfig, params: Any, tokens: Sequence[int], k: int, compute_dtype: Any = jnp.float32
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of tokens[1:], given those before: log-probabilities float32 [n-1], and the `k` likeliest in their
    place, ids int32 [n-1, k] and log-probabilities float32 [n-1, k]."""
    n = len(tokens)
    row = np.zeros((1, _row_size(n, config.max_context)), np.int32)
    row[0, :n] = tokens
    targets = np.roll(row, -1, axis=1)
    decoder = Decoder(config, compute_dtype=compute_dtype)
    # A floor under k, so that all such requests share one compilation.
    scores = score_rows(decoder, params, row, targets, min(max(k, 20), config.vocab_size))
    own, ids, top = (np.asarray(x)[0, : n - 1] for x in scores)
    return own, ids[:, :k], top[:, :k]


def score_documents(
    config: ModelConfig,
    params: Any,
    documents: Sequence[np.ndarray],
    *,
    top_k: int,
    top_p: float,
    row_length: int,
    compute_dtype: Any = jnp.float32,
    progress: Callable[[int], None] | None = None,
) -> Iterator[SoftTargets]:
    """The soft targets of each document (integer tokens [n]), in order.

    Documents longer than `row_length` are cut every `row_length` tokens, as data/packing.py cuts them for
    training, and each piece is scored alone; entry i describes token i+1 given the piece's tokens up to
    i. The last token of a document has no entry. The batches are bucketed by length and padded to fixed
    shapes, so a document's targets do not depend on the others. `progress` hears the tokens just scored.
    """
    if not 1 <= top_k <= min(MAX_ENTRIES, config.vocab_size):
        raise UserError(f"top_k is {top_k}: give 1 to {min(MAX_ENTRIES, config.vocab_size)} entries per position")
    if not 0 < top_p <= 1:
        raise UserError(f"top_p is {top_p}: give a share of the probability above 0 and at most 1")
    if not 2 <= row_length <= config.max_context:
        raise UserError(f"row_length is {row_length}: give 2 to the teacher's context of {config.max_context}")
    decoder = Decoder(config, compute_dtype=compute_dtype)
    params = jax.tree.map(lambda x: jnp.asarray(x, compute_dtype), params)
    lengths = [len(tokens) for tokens in documents]
    done: dict[_Piece, tuple[np.ndarray, np.ndarray]] = {}
    pieces_left = [-(-n // row_length) for n in lengths]
    following = 0
    for batch in _batches(lengths, row_length):
        for piece, entries in _score_batch(decoder, params, documents, batch, row_length, top_k):
            done[piece] = entries
            pieces_left[piece.document] -= 1
        if progress is not None:
            progress(sum(piece.stop - piece.start for piece in batch))
        while following < len(documents) and pieces_left[following] == 0:
            parts = [done.pop(piece) for piece in _pieces(following, lengths[following], row_length)]
            yield _soft_targets(parts, top_p)
            following += 1


def score_shards(
    source: ShardSet,
    folder: str | Path,
    config: ModelConfig,
    params: Any,
    tokenizer: Tokenizer,
    *,
    teacher: str,
    top_k: int,
    top_p: float,
    row_length: int,
    compute_dtype: Any = jnp.float32,
    progress: Callable[[int], None] | None = None,
) -> ShardSet:
    """Writes `source` again into `folder` with the soft targets of the teacher called `teacher`.

    Only positions whose next token is learnt keep their entries. Shard by shard: a killed run goes on
    with the first shard that is missing. Raises UserError when `source` was made by another tokenizer.
    """
    source.require_tokenizer(tokenizer)
    provenance: Mapping[str, Any] = {
        **source.provenance,
        "soft_targets": {
            "teacher": teacher,
            "source": source.fingerprint,
            "top_k": top_k,
            "top_p": top_p,
            "row_length": row_length,
            "dtype": jnp.dtype(compute_dtype).name,
        },
    }
    counts = [entry["documents"] for entry in source.manifest["shards"]]
    writer = ShardSetWriter(folder, tokenizer=tokenizer, num_shards=len(counts), provenance=provenance)
    first = 0
    for shard, count in enumerate(counts):
        documents = range(first, first + count)
        first += count
        if writer.has_shard(shard):
            if progress is not None:
                progress(int(source.lengths[documents.start : documents.stop].sum()))
            continue
        read = [source.read(document) for document in documents]
        targets = score_documents(
            config,
            params,
            [document.tokens for document in read],
            top_k=top_k,
            top_p=top_p,
            row_length=row_length,
            compute_dtype=compute_dtype,
            progress=progress,
        )
        writer.write_shard(shard, map(_with_soft_targets, read, targets))
    return writer.finish()


def _with_soft_targets(document: Document, soft: SoftTargets) -> Document:
    if document.loss_mask is not None:
        learnt = np.append(document.loss_mask[1:], 0).astype(bool)
        entries = np.repeat(learnt, soft.counts)
        soft = SoftTargets(np.where(learnt, soft.counts, 0).astype(np.uint8), soft.ids[entries], soft.logprobs[entries])
    return replace(document, soft_targets=soft)


def _pieces(document: int, length: int, row_length: int) -> list[_Piece]:
    return [_Piece(document, at, min(at + row_length, length)) for at in range(0, length, row_length)]


def _row_size(length: int, longest: int) -> int:
    """The padded length of a row: powers of two, or what `longest` needs if that is less."""
    size = CHUNK_TOKENS
    while size < length:
        size *= 2
    return min(size, -(-longest // CHUNK_TOKENS) * CHUNK_TOKENS)


def _rows_per_batch(size: int) -> int:
    return max(1, BATCH_TOKENS // size)


def _score_batch(
    decoder: Decoder,
    params: Any,
    documents: Sequence[np.ndarray],
    batch: Sequence[_Piece],
    row_length: int,
    top_k: int,
) -> Iterator[tuple[_Piece, tuple[np.ndarray, np.ndarray]]]:
    """Each piece with its entries: ids [n, top_k] and log-probabilities [n, top_k]."""
    size = _row_size(max(piece.stop - piece.start for piece in batch), row_length)
    tokens = np.zeros((_rows_per_batch(size), size), np.int32)
    for row, piece in enumerate(batch):
        tokens[row, : piece.stop - piece.start] = documents[piece.document][piece.start : piece.stop]
    scores = score_rows(decoder, params, tokens, tokens, top_k)
    ids, logprobs = np.asarray(scores.top_ids), np.asarray(scores.top_logprobs)
    for row, piece in enumerate(batch):
        n = piece.stop - piece.start
        yield piece, (ids[row, :n], logprobs[row, :n])


def _soft_targets(parts: Sequence[tuple[np.ndarray, np.ndarray]], top_p: float) -> SoftTargets:
    ids = np.concatenate([part[0] for part in parts])
    logprobs = np.concatenate([part[1] for part in parts])
    logprobs[-1] = -np.inf  # nothing follows the last token
    return truncate_top_p(ids, logprobs, top_p)


def _batches(lengths: Sequence[int], row_length: int) -> Iterator[list[_Piece]]:
    """Pieces of one bucket each, in the order in which their buckets fill up."""
    filling: dict[int, list[_Piece]] = {}
    for document, length in enumerate(lengths):
        for piece in _pieces(document, length, row_length):
            size = _row_size(piece.stop - piece.start, row_length)
            batch = filling.setdefault(size, [])
            batch.append(piece)
            if len(batch) == _rows_per_batch(size):
                yield filling.pop(size)
    yield from filling.values()
