"""What a model thinks of text that is already there: an open teacher's soft targets.

Shape suffixes: B rows, S row length, C tokens of a chunk, N chunks, E embed, V vocab,
K entries per position.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.soft_targets import MAX_ENTRIES, SoftTargets, truncate_top_p
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, unembedding
from demiurgic_jax.model.layout import ONE_DEVICE
from demiurgic_jax.sampling.scored_shards import write_scored
from demiurgic_jax.sharding.layout import layout_on, per_device
from demiurgic_jax.sharding.placement import put_array
from demiurgic_jax.sharding.rules import batch_sharding, parameter_shardings

# Row lengths are multiples of this, and logits exist for this many tokens at once.
CHUNK_TOKENS = 64
TOP_K_BLOCK = 128


class Scores(NamedTuple):
    """Of each position: the log-probability of `targets` there, and the K likeliest next tokens."""

    logprobs: Any  # float32 [B, S]
    top_ids: Any  # int32 [B, S, K]
    top_logprobs: Any  # float32 [B, S, K], descending


class TopEntries(NamedTuple):
    """Of each token of a document: the log-probability of the one that follows, and the K likeliest.

    Of the last token of a document the log-probability is that of id 0, which means nothing.
    """

    logprobs: np.ndarray  # float32 [n]
    ids: np.ndarray  # int32 [n, K]
    top_logprobs: np.ndarray  # float32 [n, K], descending


class _Piece(NamedTuple):
    """Tokens start..stop-1 of a document, scored in a context of their own."""

    document: int
    start: int
    stop: int


@partial(jax.jit, static_argnames=("decoder", "k", "pieces", "mesh"))
def score_rows(
    decoder: Decoder,
    params: Any,
    tokens_BS: jax.Array,
    targets_BS: jax.Array,
    k: int,
    pieces: int | None = None,
    mesh: Mesh | None = None,
) -> Scores:
    """One forward pass; rows start at position 0, padding is at their ends, and S is a multiple of
    CHUNK_TOKENS. Log-softmax in float32, a chunk of tokens at a time, over the first `pieces` ids: what a vocabulary
    has beyond its tokenizer's pieces was never trained. On a `mesh` each device takes its rows."""

    def on_one_device(params: Any, tokens_BS: jax.Array, targets_BS: jax.Array) -> Scores:
        B, S = tokens_BS.shape
        positions_BS = jnp.broadcast_to(jnp.arange(S, dtype=jnp.int32), (B, S))
        hidden_BSE, _ = decoder.apply({"params": params}, tokens_BS, positions_BS)
        stored_VE = unembedding(decoder.config, params).astype(decoder.compute_dtype)
        unembedding_VE = decoder.layout.gather(stored_VE, ("vocab", "channels"))[:pieces]

        def chunk(parts: tuple[jax.Array, jax.Array]) -> Scores:
            hidden_CE, targets_C = parts
            logits_CV = jnp.einsum("ce,ve->cv", hidden_CE, unembedding_VE, preferred_element_type=jnp.float32)
            normalizer_C1 = jax.nn.logsumexp(logits_CV, axis=-1, keepdims=True)
            own_C1 = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=-1)
            top_CK, ids_CK = top_k_by_blocks(logits_CV, k)
            return Scores((own_C1 - normalizer_C1)[:, 0], ids_CK, top_CK - normalizer_C1)

        hidden_NCE = hidden_BSE.reshape(-1, CHUNK_TOKENS, hidden_BSE.shape[-1])
        scores = jax.lax.map(chunk, (hidden_NCE, targets_BS.reshape(-1, CHUNK_TOKENS)))
        return jax.tree.map(lambda x: x.reshape(B, S, *x.shape[2:]), scores)

    if mesh is None or mesh.size == 1:
        return on_one_device(params, tokens_BS, targets_BS)
    specs = jax.tree.map(lambda sharding: sharding.spec, parameter_shardings(mesh, decoder.config))
    rows = batch_sharding(mesh).spec
    return per_device(mesh, on_one_device, (specs, rows, rows), rows)(params, tokens_BS, targets_BS)


def top_k_by_blocks(logits_CV: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """What `jax.lax.top_k` gives, but for the order of equal logits. The k largest lie in the k blocks with the largest
    maxima, so only these are sorted: a few thousand numbers instead of a vocabulary."""
    C, V = logits_CV.shape
    count = -(-V // TOP_K_BLOCK)
    if count <= 2 * k:
        return jax.lax.top_k(logits_CV, k)
    padded = jnp.pad(logits_CV, ((0, 0), (0, count * TOP_K_BLOCK - V)), constant_values=-jnp.inf)
    blocks = padded.reshape(C, count, TOP_K_BLOCK)
    best_CK = jnp.sort(jax.lax.top_k(jnp.max(blocks, axis=-1), k)[1], axis=-1)
    candidates = jnp.take_along_axis(blocks, best_CK[..., None], axis=1).reshape(C, k * TOP_K_BLOCK)
    top_CK, where_CK = jax.lax.top_k(candidates, k)
    block_CK = jnp.take_along_axis(best_CK, where_CK // TOP_K_BLOCK, axis=-1)
    return top_CK, block_CK * TOP_K_BLOCK + where_CK % TOP_K_BLOCK


@dataclass(frozen=True)
class ScoringConfig:
    """What is kept of a teacher's distribution, and how it is run.

    Kept are the likeliest entries up to `top_p` of the mass, `top_k` at most. `row_length` is the context; a pass takes
    about `batch_tokens` tokens, padding included. `mesh` spreads rows over `data` and `fsdp` and weights over `fsdp`;
    None: one device.
    """

    top_k: int
    top_p: float
    row_length: int
    compute_dtype: Any = jnp.float32
    batch_tokens: int = 1024
    mesh: Mesh | None = None

    def check(self, config: ModelConfig, pieces: int) -> None:
        """UserError naming what does not go with a teacher of this shape with so many pieces."""
        if pieces > config.vocab_size:
            raise UserError(
                f"the teacher has {config.vocab_size} rows of logits for the {pieces} pieces of its tokenizer: they do "
                "not belong together"
            )
        if not 1 <= self.top_k <= min(MAX_ENTRIES, pieces):
            raise UserError(f"top_k is {self.top_k}: give 1 to {min(MAX_ENTRIES, pieces)} entries per position")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}: give a share of the probability above 0 and at most 1")
        if not 2 <= self.row_length <= config.max_context:
            raise UserError(f"row_length is {self.row_length}: give 2 to the teacher's context of {config.max_context}")
        if self.batch_tokens < 1:
            raise UserError(f"batch_tokens is {self.batch_tokens}: give at least 1")
        if self.mesh is not None and self.mesh.shape["context"] * self.mesh.shape["tensor"] > 1:
            raise UserError("a teacher is scored on a mesh of data and fsdp: leave context and tensor at 1")

    def rows_per_batch(self, size: int) -> int:
        """Rows of `size` tokens in a pass: as many on each device."""
        devices = 1 if self.mesh is None else self.mesh.size
        return max(1, self.batch_tokens // size // devices) * devices


class Scorer:
    """A teacher ready to score: `soft_targets` of documents, `top_entries` of them raw."""

    def __init__(self, model: ModelConfig, params: Any, config: ScoringConfig, pieces: int | None = None) -> None:
        """`params` are host arrays; the tokenizer has so many `pieces` (default: one for each row of logits)."""
        self._pieces = pieces if pieces is not None else model.vocab_size
        config.check(model, self._pieces)
        self.config = config
        mesh = config.mesh
        layout = layout_on(mesh) if mesh is not None else ONE_DEVICE
        self._decoder = Decoder(model, compute_dtype=config.compute_dtype, layout=layout)
        if mesh is None:
            self._params = jax.tree.map(lambda x: jnp.asarray(x, config.compute_dtype), params)
        else:
            dtype = jnp.dtype(config.compute_dtype)
            self._params = jax.tree.map(
                lambda x, sharding: put_array(np.asarray(x).astype(dtype), sharding),
                params,
                parameter_shardings(mesh, model),
            )

    def soft_targets(
        self,
        documents: Sequence[np.ndarray],
        *,
        done: Container[int] = (),
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, SoftTargets]]:
        """(number, soft targets) of each document (integer tokens [n]) that is not among `done`, as they are finished.

        Documents longer than a row are cut every `row_length` tokens, as data/packing.py cuts them for training, and
        each piece is scored alone; entry i describes token i+1 given the piece's tokens up to i. The last token of a
        document has no entry. The batches are bucketed by length and padded to fixed shapes, so a document's targets do
        not depend on the others, nor on where a killed job went on. `progress` hears the tokens just scored.
        """
        for number, top in self.top_entries(documents, done=done, progress=progress):
            top.top_logprobs[-1] = -np.inf  # nothing follows the last token
            yield number, truncate_top_p(top.ids, top.top_logprobs, self.config.top_p)

    def top_entries(
        self,
        documents: Sequence[np.ndarray],
        *,
        done: Container[int] = (),
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, TopEntries]]:
        """The same before it is truncated to `top_p`."""
        row_length = self.config.row_length
        lengths = [0 if number in done else len(tokens) for number, tokens in enumerate(documents)]
        parts: dict[int, dict[int, TopEntries]] = {}
        for batch, scores in self._in_turn(documents, lengths):
            for piece, entries in self._read(batch, scores, documents):
                mine = parts.setdefault(piece.document, {})
                mine[piece.start] = entries
                if len(mine) == -(-lengths[piece.document] // row_length):
                    pieces = [mine[start] for start in sorted(mine)]
                    del parts[piece.document]
                    yield piece.document, TopEntries(*map(np.concatenate, zip(*pieces, strict=True)))
            if progress is not None:
                progress(sum(piece.stop - piece.start for piece in batch))

    def _in_turn(
        self, documents: Sequence[np.ndarray], lengths: Sequence[int]
    ) -> Iterator[tuple[list[_Piece], Scores]]:
        """Each batch with its scores. One is always being computed while the host looks at the one before."""
        waiting = None
        for batch in _batches(lengths, self.config):
            arguments: list[Any] = list(_filled(documents, batch, self.config))
            if self.config.mesh is not None:
                arguments = [put_array(x, batch_sharding(self.config.mesh)) for x in arguments]
            scores = score_rows(
                self._decoder, self._params, *arguments, self.config.top_k, self._pieces, self.config.mesh
            )
            if waiting is not None:
                yield waiting
            waiting = batch, scores
        if waiting is not None:
            yield waiting

    def _read(
        self, batch: Sequence[_Piece], scores: Scores, documents: Sequence[np.ndarray]
    ) -> Iterator[tuple[_Piece, TopEntries]]:
        own, ids, logprobs = map(np.asarray, scores)
        for row, piece in enumerate(batch):
            n = piece.stop - piece.start
            if np.isnan(logprobs[row, :n]).any():
                token = piece.start + int(np.argmax(np.isnan(logprobs[row, :n]).any(axis=1)))
                raise UserError(
                    f"the teacher's log-probabilities at token {token} of document {piece.document} are NaN: its "
                    "weights are damaged, or it needs a wider compute dtype (float32)"
                )
            yield piece, TopEntries(own[row, :n].copy(), ids[row, :n].copy(), logprobs[row, :n].copy())


def score_documents(
    config: ModelConfig,
    params: Any,
    documents: Sequence[np.ndarray],
    scoring: ScoringConfig,
    *,
    progress: Callable[[int], None] | None = None,
) -> Iterator[SoftTargets]:
    """The soft targets of each document (integer tokens [n]), in order; see `Scorer.soft_targets`."""
    waiting: dict[int, SoftTargets] = {}
    following = 0
    for number, soft in Scorer(config, params, scoring).soft_targets(documents, progress=progress):
        waiting[number] = soft
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def score_shards(
    source: ShardSet,
    folder: str | Path,
    config: ModelConfig,
    params: Any,
    tokenizer: Tokenizer,
    scoring: ScoringConfig,
    *,
    teacher: str,
    part: tuple[int, int] = (0, 1),
    progress: Callable[[int], None] | None = None,
) -> ShardSet | None:
    """Writes `source` again into `folder` with the soft targets of the teacher called `teacher`.

    Only positions whose next token is learnt keep their entries. A killed run goes on with the first document that is
    missing, to the same bytes. `part` (index, count): this process does every count-th shard from `index` on; the one
    that finds all shards finished closes the set and returns it, the others return None. Raises UserError when
    `source` was made by another tokenizer.
    """
    source.require_tokenizer(tokenizer)
    scorer = Scorer(config, params, scoring, tokenizer.vocab_size)
    provenance = soft_target_provenance(source, teacher, scoring)

    def scored(
        documents: Sequence[Document], done: Container[int], report: Callable[[int], None]
    ) -> Iterator[tuple[int, SoftTargets]]:
        return scorer.soft_targets([document.tokens for document in documents], done=done, progress=report)

    return write_scored(source, folder, tokenizer, scored, provenance=provenance, part=part, progress=progress)


def soft_target_provenance(source: ShardSet, teacher: str, scoring: ScoringConfig) -> dict[str, Any]:
    """All that decides the soft targets of `source`: shards on disk with another one are made again."""
    return {
        **source.provenance,
        "soft_targets": {
            "teacher": teacher,
            "source": source.fingerprint,
            "top_k": scoring.top_k,
            "top_p": scoring.top_p,
            "row_length": scoring.row_length,
            "batch_tokens": scoring.batch_tokens,
            "dtype": jnp.dtype(scoring.compute_dtype).name,
        },
    }


def score_batches(documents: Sequence[np.ndarray], config: ScoringConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The passes that scoring `documents` makes: tokens and targets, int32 [B, S], padded with 0."""
    for batch in _batches([len(tokens) for tokens in documents], config):
        yield _filled(documents, batch, config)


def _filled(
    documents: Sequence[np.ndarray], batch: Sequence[_Piece], config: ScoringConfig
) -> tuple[np.ndarray, np.ndarray]:
    size = _row_size(max(piece.stop - piece.start for piece in batch), config.row_length)
    tokens = np.zeros((config.rows_per_batch(size), size), np.int32)
    targets = np.zeros_like(tokens)
    for row, piece in enumerate(batch):
        document = documents[piece.document]
        tokens[row, : piece.stop - piece.start] = document[piece.start : piece.stop]
        following = document[piece.start + 1 : piece.stop + 1]
        targets[row, : len(following)] = following
    return tokens, targets


def _pieces(document: int, length: int, row_length: int) -> list[_Piece]:
    return [_Piece(document, at, min(at + row_length, length)) for at in range(0, length, row_length)]


def _row_size(length: int, longest: int) -> int:
    """The padded length of a row: a power of two or halfway to the next, or what `longest` needs if that is less."""
    size = CHUNK_TOKENS
    while size < length:
        halfway = size * 3 // 2
        size = halfway if halfway >= length and halfway % CHUNK_TOKENS == 0 else 2 * size
    return min(size, -(-longest // CHUNK_TOKENS) * CHUNK_TOKENS)


def _batches(lengths: Sequence[int], config: ScoringConfig) -> Iterator[list[_Piece]]:
    """Pieces of one bucket each, in the order in which their buckets fill up."""
    filling: dict[int, list[_Piece]] = {}
    for document, length in enumerate(lengths):
        for piece in _pieces(document, length, config.row_length):
            size = _row_size(piece.stop - piece.start, config.row_length)
            batch = filling.setdefault(size, [])
            batch.append(piece)
            if len(batch) == config.rows_per_batch(size):
                yield filling.pop(size)
    yield from filling.values()
