"""Shards in a student's tokens get the soft targets of a teacher that has another tokenizer."""

import numpy as np
import pytest

from demiurgic_jax.data.alignment import Aligned
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.cross_tokenizer import sampled, score_shards_across, weighed
from demiurgic_jax.sampling.scoring import ScoringConfig, TopEntries, score_shards

SCORING = ScoringConfig(8, 0.98, 64)
TEXTS = ["def add(a, b):\n    return a + b\n", "print('Grüße, 世界')\n", "for number in range(3):\n    pass\n" * 4]


@pytest.fixture(scope="module")
def student():
    return train_sentencepiece(["return number + number\n" * 20, "print(add)\n" * 20], 390)


def written(folder, tokenizer):
    documents = [
        Document(str(i), "python", "code", np.array([*tokenizer.encode(text), tokenizer.special.eos], np.int32))
        for i, text in enumerate(TEXTS)
    ]
    return write_shards(folder, documents, tokenizer=tokenizer, num_shards=1, provenance={"from": "tests"})


def test_a_student_with_a_tokenizer_of_its_own_gets_targets(config, params, tokenizer, student, tmp_path):
    source = written(tmp_path / "plain", student)
    heard = []
    scored = score_shards_across(
        source, tmp_path / "soft", config, params, tokenizer, student, SCORING, teacher="tiny", progress=heard.append
    )
    assert sum(heard) == int(source.lengths.sum())
    assert scored.manifest["tokenizer_fingerprint"] == student.fingerprint
    assert scored.provenance["soft_targets"]["tokenizer"] == tokenizer.fingerprint
    for number in range(len(scored)):
        document = scored.read(number)
        np.testing.assert_array_equal(document.tokens, source.read(number).tokens)
        counts = document.soft_targets.counts
        assert counts[-1] == 0
        assert (counts[:-1] > 0).mean() > 0.3
        mass = np.exp(document.soft_targets.dense(8)[1]).sum(-1)
        assert (mass < 1.001).all()


def test_with_one_tokenizer_it_is_what_scoring_gives(config, params, tokenizer, tmp_path):
    source = written(tmp_path / "plain", tokenizer)
    told = {"teacher": "tiny"}
    across = score_shards_across(source, tmp_path / "across", config, params, tokenizer, tokenizer, SCORING, **told)
    direct = score_shards(source, tmp_path / "direct", config, params, tokenizer, SCORING, **told)
    for number in range(len(source)):
        ours, expected = (shards.read(number).soft_targets for shards in (across, direct))
        np.testing.assert_array_equal(ours.counts, expected.counts)
        np.testing.assert_array_equal(ours.ids, expected.ids)
        np.testing.assert_allclose(ours.logprobs, expected.logprobs, atol=5e-3)


def test_shards_in_the_teachers_tokens_are_refused(config, params, tokenizer, student, tmp_path):
    source = written(tmp_path / "plain", tokenizer)
    with pytest.raises(UserError, match="was made with tokenizer"):
        score_shards_across(source, tmp_path / "x", config, params, tokenizer, student, SCORING, teacher="tiny")


def test_samples_are_drawn_again_in_the_students_tokens(config, params, tokenizer, student, tmp_path):
    source = written(tmp_path / "plain", student)
    arguments = config, params, tokenizer, student
    sampling = ScoringConfig(8, 1.0, 64, kind="sampled")
    scored = score_shards_across(source, tmp_path / "one", *arguments, sampling, teacher="tiny")
    again = score_shards_across(source, tmp_path / "two", *arguments, sampling, teacher="tiny")
    assert scored.fingerprint == again.fingerprint
    for number in range(len(scored)):
        soft = scored.read(number).soft_targets
        assert soft.samples == 8
        assert soft.counts.max() <= 8
        assert soft.counts[-1] == 0
        # Inside of a teacher's token too, where truncated targets may know too little.
        assert (soft.counts[:-1] > 0).mean() > 0.9


def test_what_is_drawn_twice_weighs_its_probability_on_average():
    """Forty thousand places with one distribution each, drawn finely by the teacher and coarsely for the shards."""
    rng, n, K = np.random.default_rng(0), 40_000, 4
    masses = np.array([0.5, 0.2, 0.12, 0.08, 0.05, 0.03, 0.02])
    aligned = Aligned(np.tile(np.arange(7, dtype=np.int32), (n, 1)), np.tile(masses, (n, 1)), np.ones(n, bool))
    soft = sampled(aligned, rng.integers(400, size=n), ScoringConfig(K, 1.0, 64, kind="sampled"))
    ids, logprobs = soft.dense(K)
    drawn = np.stack([np.where(ids == entry, np.exp(logprobs), 0.0).sum(-1) for entry in range(7)], axis=1)
    # Eight bits hold a likely entry's log-probability to half a percent or so.
    np.testing.assert_allclose(drawn.mean(0), masses, rtol=0.02, atol=4 / K / np.sqrt(n))
    np.testing.assert_allclose(drawn.sum(-1), 1.0, atol=1 / K + 0.01)


def test_the_token_that_follows_keeps_its_own_probability():
    top = TopEntries(
        np.log(np.array([0.001, 0.4], np.float32)),
        np.array([[5, 7], [3, 2]], np.int32),
        np.log(np.array([[0.6, 0.01], [0.4, 0.3]], np.float32)),
    )
    ids, logprobs = weighed(np.array([1, 9, 3], np.int32)[:2], top, 4)
    weights = np.exp(logprobs)
    np.testing.assert_allclose(weights.sum(-1), 1.0)
    assert ids[0].tolist() == [9, 5, 7]
    np.testing.assert_allclose(weights[0], np.array([0.001, 0.6, 0.25]) / 0.851, rtol=1e-5)
