"""Shards in a student's tokens get the soft targets of a teacher that has another tokenizer."""

import numpy as np
import pytest

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.cross_tokenizer import score_shards_across
from demiurgic_jax.sampling.scoring import ScoringConfig, score_shards

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
