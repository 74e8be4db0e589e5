"""Batches as a pure function of (seed, step): no iterator state exists, so there is none to save.

Batch `step` holds the rows step·B … (step+1)·B - 1 of an endless stream. The mixture says which shard set gives row n,
and that it is the m-th row of that set; of a plan with R rows that is

    rows[permutation(seed, epoch)[m mod R]],   epoch = m div R
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from absl import flags

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.fim import FimConfig, FimTransform
from demiurgic_jax.data.mixture import Mixture
from demiurgic_jax.data.order import hashed, permuted, process_share
from demiurgic_jax.data.packing import plan_rows
from demiurgic_jax.data.rows import RowReader, batch_of
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

END_OF_STEPS = 1 << 62
BLOCK = 256  # rows whose places are found together, which costs little more than one alone
READ_AHEAD = 8  # batches; with fewer, reader and trainer wait for each other's turn of the interpreter


class _Row(NamedTuple):
    """Row `row` of the plan of set `source`, as it is in `epoch`."""

    source: int
    row: int
    epoch: int


class Loader:
    """Rows and batches of one shard set, or of a mixture of several."""

    def __init__(
        self,
        data: ShardSet | Mixture,
        *,
        batch_size: int,
        row_length: int,
        seed: int,
        soft_targets: int = 0,
        packing: str = "best_fit",
        fim: FimConfig | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """`batch_size` counts rows over all processes; `soft_targets` is the number K of teacher entries
        per position (0 for none); `packing` is a name of data/packing.py; `fim` needs the `tokenizer`.

        Raises UserError when the shards cannot fill one batch, when no set holds soft targets but some are asked
        for, or when the tokenizer has no FIM pieces.
        """
        self._arguments = {
            "batch_size": batch_size,
            "row_length": row_length,
            "seed": seed,
            "soft_targets": soft_targets,
            "packing": packing,
            "fim": fim,
            "tokenizer": tokenizer,
        }
        self.data = data
        self.mixture = data if isinstance(data, Mixture) else Mixture([data], [1.0])
        self.batch_size = batch_size
        self.row_length = row_length
        self.soft_targets = soft_targets
        self._seeds = [int(hashed(seed, source)[0]) for source in range(len(self.mixture.sets))]
        self.sources = []
        for shard_set, source_seed in zip(self.mixture.sets, self._seeds, strict=True):
            plan = plan_rows(shard_set.lengths, row_length, packing)
            if plan.num_rows == 0:
                raise UserError(f"{shard_set.folder} holds no document; leave it out or make its shards again")
            transform = None
            if fim is not None and fim.rate > 0:
                assert tokenizer is not None, "FIM cuts text, so it needs the tokenizer"
                transform = FimTransform(fim, tokenizer, source_seed)
            self.sources.append(RowReader(shard_set, plan, transform))
        samples = [int(shard_set.manifest.get("soft_target_samples", 0)) for shard_set in self.mixture.sets]
        self.sampled = bool(soft_targets and any(samples))
        self._block = lru_cache(maxsize=16)(self._places)
        self.num_rows = sum(source.plan.num_rows for source in self.sources)
        folders = ", ".join(str(shard_set.folder) for shard_set in self.mixture.sets)
        if self.num_rows < batch_size:
            raise UserError(
                f"{folders} fills {self.num_rows} rows of {row_length} tokens, fewer than one batch of "
                f"{batch_size}; lower the batch size or the row length, or make more documents"
            )
        if soft_targets and not any(shard_set.manifest["soft_target_cap"] for shard_set in self.mixture.sets):
            raise UserError(f"{folders} holds no soft targets; train without them, or make the shards with a teacher's")
        for shard_set, drawn in zip(self.mixture.sets, samples, strict=True):
            if 0 < soft_targets < drawn:
                raise UserError(
                    f"{shard_set.folder} holds up to {drawn} samples of the teacher's distribution for a token, of "
                    f"which none may be left out: set train.soft_targets={drawn} instead of {soft_targets}"
                )

    def __reduce__(self) -> tuple[Callable[..., "Loader"], tuple[Any, ...]]:
        """A worker process opens the shards and plans the rows by itself."""
        return _rebuilt, (self.data, self._arguments)

    def batch(self, step: int, process_index: int = 0, process_count: int = 1) -> Batch:
        """This process's share of the rows of `step`'s global batch, [B / process_count, S]."""
        share = process_share(self.batch_size, process_index, process_count)
        return self._read(self._rows(step, share), share.stop - share.start)

    def batches(
        self,
        start_step: int = 0,
        *,
        process_index: int = 0,
        process_count: int = 1,
        threads: int | None = None,
        workers: int = 0,
    ) -> "PrefetchedBatches":
        """(step, batch) from `start_step` on, without end, read ahead; close it when done.

        `workers` processes read, or with 0 `threads` of this one: enough unless the interpreter of this process
        has much else to do.
        """
        process_share(self.batch_size, process_index, process_count)
        read = _ReadStep(self, process_index, process_count)
        threads = threads or max(shard_set.reading_threads for shard_set in self.mixture.sets)
        return PrefetchedBatches(read, start_step, threads=threads, workers=workers)

    def all_rows(self, batch_size: int, *, process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
        """Every row of every set once, in the plans' order; the last batch is filled up with rows of weight 0."""
        share = process_share(batch_size, process_index, process_count)
        rows = [_Row(i, row, 0) for i, source in enumerate(self.sources) for row in range(source.plan.num_rows)]
        for first in range(0, len(rows), batch_size):
            yield self._read(rows[first : first + batch_size][share], share.stop - share.start)

    def rows_in(self, step: int) -> list[list[str]]:
        """The keys of the documents in each row of `step`'s global batch."""
        return [self.sources[row.source].keys(row.row) for row in self._rows(step, slice(0, self.batch_size))]

    def _rows(self, step: int, share: slice) -> list[_Row]:
        """Which rows make up the given part of `step`'s global batch."""
        first, last = step * self.batch_size + share.start, step * self.batch_size + share.stop
        blocks = range(first // BLOCK, (last - 1) // BLOCK + 1)
        rows = [row for block in blocks for row in self._block(block)]
        skipped = first - blocks.start * BLOCK
        return rows[skipped : skipped + last - first]

    def _places(self, block: int) -> list[_Row]:
        """Rows block·BLOCK … (block + 1)·BLOCK - 1 of the stream."""
        sources, ranks = self.mixture.place(np.arange(block * BLOCK, (block + 1) * BLOCK))
        rows, epochs = np.empty_like(ranks), np.empty_like(ranks)
        for i in np.unique(sources):
            mine = np.flatnonzero(sources == i)
            size = self.sources[i].plan.num_rows
            epochs[mine], places = np.divmod(ranks[mine], size)
            for epoch in np.unique(epochs[mine]).tolist():
                now = epochs[mine] == epoch
                rows[mine[now]] = permuted(self._seeds[i], epoch, places[now], size)
        return list(map(_Row, sources.tolist(), rows.tolist(), epochs.tolist()))

    def _read(self, rows: Sequence[_Row], batch_size: int) -> Batch:
        pieces = [self.sources[row.source].pieces(row.row, row.epoch) for row in rows]
        return batch_of(pieces, batch_size, self.row_length, self.soft_targets, sampled=self.sampled)


def _rebuilt(data: ShardSet | Mixture, arguments: dict[str, Any]) -> Loader:
    return Loader(data, **arguments)


class _ReadStep:
    """step → (step, batch); a class so that a worker process can be sent it."""

    def __init__(self, loader: Loader, process_index: int, process_count: int) -> None:
        self._loader = loader
        self._share = (process_index, process_count)

    def __call__(self, step: int) -> tuple[int, Batch]:
        return step, self._loader.batch(step, *self._share)


class PrefetchedBatches:
    """Iterates over read(start_step), read(start_step + 1), …; Grain keeps a few of them ready."""

    def __init__(
        self, read: Callable[[int], tuple[int, Batch]], start_step: int, *, threads: int, workers: int
    ) -> None:
        import grain  # here, because it imports JAX, which rooms without it must not load

        steps = grain.MapDataset.range(start_step, END_OF_STEPS).map(read)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(READ_AHEAD, 2 * threads))
        batches = steps.to_iter_dataset(options)
        if workers:
            if not flags.FLAGS.is_parsed():  # Grain's worker processes read absl's flags, which are not our way
                flags.FLAGS.mark_as_parsed()
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
        self._iterator = iter(batches)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, Batch]:
        return next(self._iterator)

    def close(self) -> None:
        """Stops the threads or processes."""
        self._iterator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
