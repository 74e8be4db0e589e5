import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.packing import plan_rows
from demiurgic_jax.errors import UserError

LENGTHS = st.lists(st.integers(1, 70), max_size=80)


@settings(max_examples=200)
@given(lengths=LENGTHS, row_length=st.integers(2, 40))
def test_every_token_is_in_exactly_one_piece_and_no_row_overflows(lengths, row_length):
    plan = plan_rows(np.array(lengths, int), row_length)
    seen = [np.zeros(n, int) for n in lengths]
    for row in range(plan.num_rows):
        pieces = plan.pieces(row)
        assert 0 < sum(stop - start for _, start, stop in pieces) <= row_length
        for document, start, stop in pieces:
            seen[document][start:stop] += 1
    assert all((count == 1).all() for count in seen)
    assert plan.efficiency == pytest.approx(sum(lengths) / max(1, plan.num_rows * row_length))


def best_fit_decreasing(sizes: list[int], row_length: int) -> list[int]:
    """The textbook algorithm, one piece at a time: how full each row is, ascending."""
    filled: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [row for row, used in enumerate(filled) if used + size <= row_length]
        if fitting:
            filled[max(fitting, key=lambda row: filled[row])] += size
        else:
            filled.append(size)
    return sorted(filled)


@settings(max_examples=200)
@given(lengths=LENGTHS, row_length=st.integers(2, 40))
def test_rows_are_those_of_textbook_best_fit_decreasing(lengths, row_length):
    plan = plan_rows(np.array(lengths, int), row_length)
    sizes = [min(row_length, n - start) for n in lengths for start in range(0, n, row_length)]
    filled = sorted(sum(stop - start for _, start, stop in plan.pieces(row)) for row in range(plan.num_rows))
    assert filled == best_fit_decreasing(sizes, row_length)


def test_equal_lengths_give_equal_plans():
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    one, other = plan_rows(lengths, 128), plan_rows(lengths.astype(np.int32).copy(), 128)
    for name in ("row_offsets", "documents", "starts", "stops"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_rows_are_full_for_lengths_as_real_code_has_them():
    lengths = np.clip(np.random.default_rng(0).lognormal(6, 1.2, 200_000), 1, None).astype(int)
    assert plan_rows(lengths, 4096).efficiency > 0.995


def test_no_document_gives_no_row():
    assert plan_rows(np.array([], int), 8).num_rows == 0


def test_a_row_too_short_for_a_target_is_refused():
    with pytest.raises(UserError, match="row_length is 1"):
        plan_rows(np.array([3]), 1)
