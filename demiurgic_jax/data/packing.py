"""Which documents share a row: best-fit-decreasing bin packing, computed from lengths alone.

Documents of one length are placed together (the best fit of many equal pieces fills a row's gap whole
before it turns to the next), so the work grows with the number of distinct lengths rather than of documents.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np

from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class PackingPlan:
    """Rows of document pieces. Every token of every document is in exactly one piece."""

    row_length: int
    row_offsets: np.ndarray  # int64 [rows+1]: pieces row_offsets[r]..row_offsets[r+1]-1 make row r
    documents: np.ndarray  # int64 [pieces]
    starts: np.ndarray  # int32 [pieces], first token of the piece in its document
    stops: np.ndarray  # int32 [pieces], one past the last

    @property
    def num_rows(self) -> int:
        return len(self.row_offsets) - 1

    def pieces(self, row: int) -> list[tuple[int, int, int]]:
        """(document, start, stop) of each piece of `row`, in the order in which they stand there."""
        here = slice(self.row_offsets[row], self.row_offsets[row + 1])
        return list(
            zip(self.documents[here].tolist(), self.starts[here].tolist(), self.stops[here].tolist(), strict=True)
        )

    @property
    def efficiency(self) -> float:
        """The share of all row positions that hold a token."""
        return float((self.stops - self.starts).sum(dtype=np.int64) / max(1, self.num_rows * self.row_length))


def plan_rows(lengths: np.ndarray, row_length: int) -> PackingPlan:
    """Packs documents of `lengths` (integer [N], tokens) into rows of `row_length` tokens.

    Longer documents are cut every `row_length` tokens. Equal lengths give equal plans.
    """
    if row_length < 2:
        raise UserError(f"row_length is {row_length}; give at least 2, a token and the one that follows it")
    documents, starts, stops = _cut(np.asarray(lengths, np.int64), row_length)
    sizes = stops - starts
    order = np.argsort(-sizes, kind="stable")
    row_of = np.empty(len(sizes), np.int64)
    row_of[order], num_rows = _place(sizes[order], row_length)
    # Within a row the pieces stand as they were placed, longest first.
    by_row = order[np.argsort(row_of[order], kind="stable")]
    row_offsets = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=num_rows))])
    return PackingPlan(
        row_length=row_length,
        row_offsets=row_offsets.astype(np.int64),
        documents=documents[by_row],
        starts=starts[by_row].astype(np.int32),
        stops=stops[by_row].astype(np.int32),
    )


def _cut(lengths: np.ndarray, row_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every document as pieces of at most `row_length`: documents, starts, stops."""
    pieces = -(-lengths // row_length)
    documents = np.repeat(np.arange(len(lengths)), pieces)
    first_piece = np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = (np.arange(len(documents)) - first_piece) * row_length
    stops = np.minimum(starts + row_length, lengths[documents])
    return documents, starts, stops


def _place(sizes: np.ndarray, row_length: int) -> tuple[np.ndarray, int]:
    """The row of each piece (`sizes` descending), and the number of rows."""
    row_of = np.empty(len(sizes), np.int64)
    rows_with_gap: dict[int, np.ndarray] = {}
    gaps: list[int] = []  # keys of rows_with_gap, ascending
    num_rows = 0

    def put_back(gap: int, rows: np.ndarray) -> None:
        if gap == 0 or len(rows) == 0:
            return
        if gap not in rows_with_gap:
            insort(gaps, gap)
            rows_with_gap[gap] = rows
        else:
            rows_with_gap[gap] = np.concatenate([rows_with_gap[gap], rows])

    # `sizes` descends: its distinct values and where their runs begin.
    run_starts = np.concatenate([[0], np.flatnonzero(np.diff(sizes)) + 1, [len(sizes)]])
    for first, last in zip(run_starts[:-1].tolist(), run_starts[1:].tolist(), strict=True):
        if first == last:
            continue
        size = int(sizes[first])
        while first < last:
            tightest = bisect_left(gaps, size)
            if tightest < len(gaps):
                gap = gaps.pop(tightest)
                rows = rows_with_gap.pop(gap)
            else:
                gap = row_length
                new = -(-(last - first) // (row_length // size))
                rows = np.arange(num_rows, num_rows + new)
                num_rows += new
            per_row = gap // size
            placed = min(last - first, per_row * len(rows))
            row_of[first : first + placed] = np.repeat(rows, per_row)[:placed]
            full, rest = divmod(placed, per_row)
            put_back(gap - per_row * size, rows[:full])
            if rest:
                put_back(gap - rest * size, rows[full : full + 1])
            put_back(gap, rows[full + bool(rest) :])
            first += placed
    return row_of, num_rows
