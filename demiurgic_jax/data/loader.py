"""Batches as a pure function of (seed, step): no iterator state exists, so there is none to save.

batch(step) = rows[permutation(seed, epoch)[j·B : (j+1)·B]],   step = epoch · steps_per_epoch + j
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from types import TracebackType
from typing import Self

import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.order import permutation, process_share
from demiurgic_jax.data.packing import plan_rows
from demiurgic_jax.data.rows import read_rows
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.errors import UserError

END_OF_STEPS = 1 << 62


class Loader:
    """Rows and batches of one shard set."""

    def __init__(
        self, shard_set: ShardSet, *, batch_size: int, row_length: int, seed: int, soft_targets: int = 0
    ) -> None:
        """`batch_size` counts rows over all processes; `soft_targets` is the number K of teacher entries
        per position (0 for none).

        Raises UserError when the shards cannot fill one batch, or hold no soft targets but some are asked for.
        """
        self.shard_set = shard_set
        self.batch_size = batch_size
        self.soft_targets = soft_targets
        self.plan = plan_rows(shard_set.lengths, row_length)
        self.steps_per_epoch = self.plan.num_rows // batch_size
        if self.steps_per_epoch == 0:
            raise UserError(
                f"{shard_set.folder} fills {self.plan.num_rows} rows of {row_length} tokens, fewer than one batch of "
                f"{batch_size}; lower the batch size or the row length, or make more documents"
            )
        if soft_targets and not shard_set.manifest["soft_target_cap"]:
            raise UserError(
                f"{shard_set.folder} holds no soft targets; train without them, or make the shards with a teacher's"
            )
        self._permutation = lru_cache(maxsize=2)(lambda epoch: permutation(seed, epoch, self.plan.num_rows))

    def row(self, index: int) -> Batch:
        """Row `index` of the plan, as a batch of one."""
        return self._read([index], 1)

    def batch(self, step: int, process_index: int = 0, process_count: int = 1) -> Batch:
        """This process's share of the rows of `step`'s global batch, [B / process_count, S]."""
        rows = self._rows(step)[process_share(self.batch_size, process_index, process_count)]
        return self._read(rows.tolist(), len(rows))

    def batches(
        self, start_step: int = 0, *, process_index: int = 0, process_count: int = 1, threads: int = 2
    ) -> "PrefetchedBatches":
        """(step, batch) from `start_step` on, without end, read ahead by `threads`; close it when done."""
        process_share(self.batch_size, process_index, process_count)
        return PrefetchedBatches(
            lambda step: (step, self.batch(step, process_index, process_count)), start_step, threads
        )

    def all_rows(self, batch_size: int, *, process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
        """Every row exactly once, in the plan's order; the last batch is filled up with rows of weight 0."""
        share = process_share(batch_size, process_index, process_count)
        for first in range(0, self.plan.num_rows, batch_size):
            rows = range(first, min(first + batch_size, self.plan.num_rows))[share]
            yield self._read(rows, share.stop - share.start)

    def rows_in(self, step: int) -> list[list[str]]:
        """The keys of the documents in each row of `step`'s global batch."""
        return [
            [self.shard_set.read(document).key for document, _, _ in self.plan.pieces(row)]
            for row in self._rows(step).tolist()
        ]

    def _rows(self, step: int) -> np.ndarray:
        epoch, within = divmod(step, self.steps_per_epoch)
        return self._permutation(epoch)[within * self.batch_size : (within + 1) * self.batch_size]

    def _read(self, rows: range | list[int], batch_size: int) -> Batch:
        return read_rows(self.shard_set, self.plan, rows, soft_targets=self.soft_targets, batch_size=batch_size)


class PrefetchedBatches:
    """Iterates over read(start_step), read(start_step + 1), …; threads of Grain keep a few of them ready."""

    def __init__(self, read: Callable[[int], tuple[int, Batch]], start_step: int, threads: int) -> None:
        import grain  # here, because it imports JAX, which rooms without it must not load

        steps = grain.MapDataset.range(start_step, END_OF_STEPS)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        self._iterator = iter(steps.map(read).to_iter_dataset(options))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, Batch]:
        return next(self._iterator)

    def close(self) -> None:
        """Stops the threads."""
        self._iterator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
