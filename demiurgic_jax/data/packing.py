"""Which documents share a row, computed from their lengths alone. Either plan answers for any row by itself.

`best_fit` is best-fit-decreasing bin packing: a document is cut only where it is longer than a row, and rows are
nearly full. For examples, which lose their question when they are cut.
`concat` lays all documents end to end and cuts every `row_length` tokens: rows are full to the last one. For
corpora, where a cut loses little.
"""

from bisect import bisect_left, insort
from typing import Protocol

import numpy as np

from demiurgic_jax.errors import UserError


class PackingPlan(Protocol):
    """Rows of document pieces. Every token of every document is in exactly one piece."""

    row_length: int
    num_rows: int

    @property
    def efficiency(self) -> float:
        """The share of all row positions that hold a token."""
        ...

    def pieces(self, row: int) -> list[tuple[int, int, int]]:
        """(document, start, stop) of each piece of `row`, in the order in which they stand there; `stop` is one
        past the piece's last token."""
        ...


class BestFitPlan:
    """Documents are cut every `row_length` tokens; whole rows of them come first, then the ends, packed together."""

    def __init__(self, lengths: np.ndarray, row_length: int) -> None:
        self.row_length = row_length
        self._lengths = lengths
        whole = lengths // row_length
        # Rows that one piece fills: those of _long[i] begin at row _first_row[i].
        self._long = np.flatnonzero(whole)
        self._first_row = np.cumsum(whole[self._long]) - whole[self._long]
        self._num_whole = int(whole.sum(dtype=np.int64))
        # What is left of each document, in the order of rows: row _num_whole + r is _ends[_offsets[r] : _offsets[r+1]].
        sizes = lengths - whole * row_length
        ends = np.flatnonzero(sizes).astype(np.int32 if len(lengths) < 1 << 31 else np.int64)
        ends = ends[_stable_order(row_length - sizes[ends])]
        row_of, num_rows = _place(sizes[ends], row_length)
        # Within a row the pieces stand as they were placed, longest first.
        self._ends = ends[_stable_order(row_of)]
        self._offsets = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=num_rows))])
        self.num_rows = self._num_whole + num_rows

    def pieces(self, row: int) -> list[tuple[int, int, int]]:
        if row < self._num_whole:
            at = int(np.searchsorted(self._first_row, row, side="right")) - 1
            start = (row - int(self._first_row[at])) * self.row_length
            return [(int(self._long[at]), start, start + self.row_length)]
        first, last = self._offsets[row - self._num_whole : row - self._num_whole + 2].tolist()
        documents = self._ends[first:last]
        stops = self._lengths[documents]
        starts = stops - stops % self.row_length
        return list(zip(documents.tolist(), starts.tolist(), stops.tolist(), strict=True))

    @property
    def efficiency(self) -> float:
        return float(self._lengths.sum(dtype=np.int64) / max(1, self.num_rows * self.row_length))


class ConcatPlan:
    """Row r holds tokens r·row_length … (r+1)·row_length - 1 of all documents laid end to end."""

    def __init__(self, lengths: np.ndarray, row_length: int) -> None:
        self.row_length = row_length
        self._ends = np.cumsum(lengths, dtype=np.int64)  # one past each document's last token
        self._tokens = int(self._ends[-1]) if len(lengths) else 0
        self.num_rows = -(-self._tokens // row_length)

    def pieces(self, row: int) -> list[tuple[int, int, int]]:
        start, stop = row * self.row_length, min((row + 1) * self.row_length, self._tokens)
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop, side="left"))
        ends = self._ends[first : last + 1].tolist()
        begins = [int(self._ends[first - 1]) if first else 0, *ends[:-1]]
        return [
            (first + i, max(start - begin, 0), min(stop, end) - begin)
            for i, (begin, end) in enumerate(zip(begins, ends, strict=True))
        ]

    @property
    def efficiency(self) -> float:
        return self._tokens / max(1, self.num_rows * self.row_length)


PACKINGS: dict[str, type[BestFitPlan] | type[ConcatPlan]] = {"best_fit": BestFitPlan, "concat": ConcatPlan}


def require_packing(packing: str) -> None:
    """Raises UserError unless `packing` is the name of a plan."""
    if packing not in PACKINGS:
        raise UserError(f"packing {packing!r} is unknown: choose {' or '.join(PACKINGS)}")


def plan_rows(lengths: np.ndarray, row_length: int, packing: str = "best_fit") -> PackingPlan:
    """Packs documents of `lengths` (integer [N], tokens, at least 1 each) into rows of `row_length` tokens.

    Equal lengths give equal plans.
    """
    require_packing(packing)
    if row_length < 2:
        raise UserError(f"row_length is {row_length}; give at least 2, a token and the one that follows it")
    return PACKINGS[packing](lengths, row_length)


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """A stable argsort of integers 0..2³²-1, two bytes at a time: on 16 bits NumPy sorts by radix, in linear time."""
    order = np.argsort((keys & 0xFFFF).astype(np.uint16), kind="stable")
    if len(keys) and keys.max() > 0xFFFF:
        high = (keys >> 16).astype(np.uint16)
        order = order[np.argsort(high[order], kind="stable")]
    return order


def _place(sizes: np.ndarray, row_length: int) -> tuple[np.ndarray, int]:
    """The row of each piece (`sizes` descending), and the number of rows.

    Pieces of one size are placed together (the best fit of many equal pieces fills a row's gap whole before it turns
    to the next), so the work grows with the number of distinct sizes rather than of pieces.
    """
    row_of = np.empty(len(sizes), np.int32)
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
                rows = np.arange(num_rows, num_rows + new, dtype=np.int32)
                num_rows += new
            per_row = gap // size
            placed = min(last - first, per_row * len(rows))
            row_of[first : first + placed] = np.repeat(rows[: -(-placed // per_row)], per_row)[:placed]
            full, rest = divmod(placed, per_row)
            put_back(gap - per_row * size, rows[:full])
            if rest:
                put_back(gap - rest * size, rows[full : full + 1])
            put_back(gap, rows[full + bool(rest) :])
            first += placed
    return row_of, num_rows
