import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.packing import PACKINGS, plan_rows
from demiurgic_jax.errors import UserError

LENGTHS = st.lists(st.integers(1, 70), max_size=80)


@settings(max_examples=200)
@given(lengths=LENGTHS, row_length=st.integers(2, 40), packing=st.sampled_from(sorted(PACKINGS)))
def test_every_token_is_in_exactly_one_piece_and_no_row_overflows(lengths, row_length, packing):
    plan = plan_rows(np.array(lengths, int), row_length, packing)
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


@pytest.mark.parametrize("packing", PACKINGS)
def test_equal_lengths_give_equal_plans(packing):
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    one, other = plan_rows(lengths, 128, packing), plan_rows(lengths.astype(np.int32), 128, packing)
    assert [one.pieces(row) for row in range(one.num_rows)] == [other.pieces(row) for row in range(other.num_rows)]


@settings(max_examples=200)
@given(lengths=LENGTHS, row_length=st.integers(2, 40))
def test_rows_of_concat_are_the_documents_end_to_end(lengths, row_length):
    plan = plan_rows(np.array(lengths, int), row_length, "concat")
    end_to_end = [(document, token) for document, n in enumerate(lengths) for token in range(n)]
    for row in range(plan.num_rows):
        laid = [(document, token) for document, *span in plan.pieces(row) for token in range(*span)]
        assert laid == end_to_end[row * row_length : (row + 1) * row_length]
    assert plan.num_rows == -(-sum(lengths) // row_length)


@pytest.mark.parametrize("row_length", [100_000, 1 << 17])
def test_rows_longer_than_sixteen_bits_hold_are_packed_as_others(row_length):
    lengths = np.random.default_rng(0).integers(1, 2 * row_length, 300)
    plan = plan_rows(lengths, row_length)
    filled = sorted(sum(stop - start for _, start, stop in plan.pieces(row)) for row in range(plan.num_rows))
    sizes = [min(row_length, n - start) for n in lengths.tolist() for start in range(0, n, row_length)]
    assert filled == best_fit_decreasing(sizes, row_length)


def test_rows_are_full_for_lengths_as_real_code_has_them():
    lengths = np.clip(np.random.default_rng(0).lognormal(6, 1.2, 200_000), 1, None).astype(int)
    assert plan_rows(lengths, 4096).efficiency > 0.995


@pytest.mark.parametrize("packing", PACKINGS)
def test_no_document_gives_no_row(packing):
    assert plan_rows(np.array([], int), 8, packing).num_rows == 0


def test_an_unknown_packing_lists_the_known():
    with pytest.raises(UserError, match="packing 'bestfit' is unknown: choose best_fit or concat"):
        plan_rows(np.array([3]), 8, "bestfit")


def test_a_row_too_short_for_a_target_is_refused():
    with pytest.raises(UserError, match="row_length is 1"):
        plan_rows(np.array([3]), 1)
