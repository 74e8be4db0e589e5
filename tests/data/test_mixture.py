import numpy as np
import pytest
from data_samples import random_documents
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.mixture import MOST_PARTS, Mixture, MixtureConfig, interleaved, whole_shares
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.errors import UserError

WEIGHTS = st.lists(st.decimals(0, 5, places=2).map(float), min_size=1, max_size=6)


@pytest.fixture
def sets(tokenizer, tmp_path) -> list[ShardSet]:
    """Three sets whose documents' keys say where they are from."""
    return [
        write_shards(
            tmp_path / name,
            random_documents(count, seed=count),
            tokenizer=tokenizer,
            num_shards=2,
            provenance={"name": name},
        )
        for name, count in (("a", 60), ("b", 25), ("c", 10))
    ]


@settings(max_examples=100)
@given(weights=WEIGHTS)
def test_after_any_number_of_rows_every_set_has_given_its_share_to_within_one_row(weights):
    assume(sum(weights) > 0)
    shares = whole_shares([str(i) for i in range(len(weights))], weights)
    order = interleaved(shares)
    np.testing.assert_allclose(np.array(shares) / sum(shares), np.array(weights) / sum(weights), atol=1 / MOST_PARTS)
    for i, share in enumerate(shares):
        given_rows = np.cumsum(order == i)
        assert given_rows[-1] == share  # so periods may repeat
        assert (np.abs(given_rows - np.arange(1, len(order) + 1) * share / len(order)) < 1).all()


@given(weight=st.decimals("0.01", 50, places=2).map(float), start=st.integers(0, 10**12), size=st.integers(1, 5000))
def test_over_any_window_two_sets_are_exact_to_within_one_row(sets_of_two, weight, start, size):
    mixture = Mixture(sets_of_two, [weight, 1.0])
    sources, _ = mixture.place(start + np.arange(size))
    assert abs((sources == 0).sum() - size * mixture.shares[0] / sum(mixture.shares)) <= 1


@pytest.fixture(scope="module")
def sets_of_two(tokenizer, tmp_path_factory) -> list[ShardSet]:
    folder = tmp_path_factory.mktemp("two")
    documents = random_documents(3)
    return [
        write_shards(folder / name, documents, tokenizer=tokenizer, num_shards=1, provenance={"name": name})
        for name in "ab"
    ]


def test_weights_are_ratios_as_written():
    assert whole_shares("ab", [3, 1]) == whole_shares("ab", [0.75, 0.25]) == [3, 1]
    assert whole_shares("abc", [0.1, 0.2, 0.7]) == [1, 2, 7]
    assert whole_shares("ab", [1, 0]) == [1, 0]
    third = whole_shares("abc", [1 / 3, 1 / 3, 1 / 3 + 1e-9])
    assert sorted(third) == [3333, 3333, 3334]


def test_rows_of_a_set_come_in_its_own_epochs(sets):
    mixture = Mixture(sets, [0.5, 0.3, 0.2])
    loader = Loader(mixture, batch_size=10, row_length=64, seed=0)
    alone = [Loader(each, batch_size=1, row_length=64, seed=0) for each in sets]
    rows = [row.tobytes() for step in range(120) for row in loader.batch(step).tokens]
    sources, ranks = mixture.place(np.arange(len(rows)))
    for i, each in enumerate(alone):
        mine = [row for row, source in zip(rows, sources, strict=True) if source == i]
        assert ranks[sources == i].tolist() == list(range(len(mine)))
        whole = sorted(batch.tokens.tobytes() for batch in each.all_rows(1))
        assert len(mine) > 2 * len(whole)
        for epoch in range(2):
            assert sorted(mine[epoch * len(whole) : (epoch + 1) * len(whole)]) == whole


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_any_step_is_the_same_on_any_number_of_processes_and_after_any_restart(sets, process_count):
    def loader() -> Loader:
        return Loader(Mixture(sets, [5, 3, 2]), batch_size=8, row_length=64, seed=1, soft_targets=2)

    whole = loader()
    for step in (0, 7, 123_456_789):
        parts = [loader().batch(step, process, process_count) for process in range(process_count)]
        for name, arrays in zip(whole.batch(step)._fields, zip(*parts, strict=True), strict=True):
            together = None if arrays[0] is None else np.concatenate(arrays)
            np.testing.assert_array_equal(together, getattr(whole.batch(step), name))


def test_rows_in_names_documents_of_every_set(sets):
    loader = Loader(Mixture(sets, [1, 1, 1]), batch_size=6, row_length=64, seed=1)
    rows = loader.rows_in(2)
    sources, _ = loader.mixture.place(np.arange(12, 18))
    for keys, source in zip(rows, sources, strict=True):
        assert set(keys) <= {sets[source].read(document).key for document in range(len(sets[source]))}


def test_a_set_of_weight_zero_gives_nothing(sets):
    sources, _ = Mixture(sets, [1, 0, 1]).place(np.arange(1000))
    assert np.bincount(sources).tolist() == [500, 0, 500]


def test_fingerprint_is_of_the_sets_and_their_shares(sets):
    assert Mixture(sets[:1], [7]).fingerprint == sets[0].fingerprint
    several = {Mixture(sets, weights).fingerprint for weights in ([1, 1, 1], [2, 1, 1])}
    assert len(several | {Mixture(sets[:2], [1, 1]).fingerprint, sets[0].fingerprint}) == 4
    assert Mixture(sets, [2, 2, 2]).fingerprint in several


@pytest.mark.parametrize(
    ("sets", "weights", "complaint"),
    [
        (("train", "b"), (1.0, -0.5), r"weight of 'b' is -0\.5: give 0 or more"),
        (("train", "b"), (1.0, float("nan")), "weight of 'b' is nan"),
        (("train", "b"), (0.0, 0.0), "all weights of the mixture are 0"),
        (("train", "b"), (1.0,), "2 sets and 1 weights"),
        (("train", "b"), (1.0, 1e-9), "weight of 'b' is less than one row in 10,000"),
    ],
)
def test_weights_that_make_no_mixture_are_refused(sets, weights, complaint):
    with pytest.raises(UserError, match=complaint):
        MixtureConfig(sets, weights)


def test_a_set_of_another_tokenizer_is_refused_by_its_folder(sets):
    class Another:
        fingerprint = "another"

    with pytest.raises(UserError, match=f"{sets[0].folder} was made with tokenizer"):
        Mixture(sets, [1, 1, 1]).require_tokenizer(Another())
