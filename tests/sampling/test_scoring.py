"""Soft targets of an open teacher: right, independent of company, and written shard by shard."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import SentencePieceTokenizer, train_sentencepiece
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.data.soft_targets import SoftTargets
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sampling.scoring import score_documents, score_shards

ROW_LENGTH = 192
LENGTHS = [1, 2, 63, 64, 65, 150, 192, 193, 500, 7, 130, 20]


@pytest.fixture(scope="module")
def documents(config: ModelConfig) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(config.vocab_size, size=length) for length in LENGTHS]


@pytest.fixture(scope="module")
def score(config: ModelConfig, params: dict) -> Callable[..., list[SoftTargets]]:
    def score(documents: list[np.ndarray], *, top_p: float = 1.0, row_length: int = ROW_LENGTH) -> list[SoftTargets]:
        return list(score_documents(config, params, documents, top_k=8, top_p=top_p, row_length=row_length))

    return score


@pytest.fixture(scope="module")
def full_logprobs(config: ModelConfig, params: dict) -> Callable[[np.ndarray], np.ndarray]:
    """Tokens [n] to log-probabilities [n, V] of one plain forward pass."""
    decoder = Decoder(config)

    @jax.jit
    def forward(row: jax.Array) -> jax.Array:
        hidden, _ = decoder.apply({"params": params}, row[None], jnp.arange(len(row))[None])
        return jax.nn.log_softmax(decoder.apply({"params": params}, hidden[0], method="unembed"))

    return lambda tokens: np.asarray(forward(np.pad(tokens, (0, ROW_LENGTH - len(tokens)))))[: len(tokens)]


def assert_same(left: SoftTargets, right: SoftTargets) -> None:
    for name in ("counts", "ids", "logprobs"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_targets_are_the_log_softmax_of_each_piece_in_a_context_of_its_own(documents, score, full_logprobs):
    for tokens, soft in zip(documents, score(documents), strict=True):
        assert len(soft) == len(tokens)
        pieces = [tokens[at : at + ROW_LENGTH] for at in range(0, len(tokens), ROW_LENGTH)]
        expected = np.concatenate([full_logprobs(piece) for piece in pieces])[:-1]
        ids, logprobs = soft.slice(0, len(tokens) - 1).dense(8)
        np.testing.assert_allclose(logprobs, np.take_along_axis(expected, ids, -1), atol=2e-2)  # float16
        np.testing.assert_allclose(logprobs, -np.sort(-expected, axis=-1)[:, :8], atol=2e-2)
        assert soft.counts[-1] == 0  # nothing follows the last token


def test_a_documents_targets_are_bit_for_bit_the_same_in_any_company(documents, score):
    together = score(documents)
    for order in ([8, 5], [5, 4, 3, 2, 1, 0], [9]):
        for index, soft in zip(order, score([documents[i] for i in order]), strict=True):
            assert_same(soft, together[index])


def test_top_p_keeps_the_likeliest_entries_that_reach_it(documents, score):
    for all_entries, soft in zip(score(documents), score(documents, top_p=0.5), strict=True):
        dense, kept = all_entries.dense(8)[1], soft.dense(8)[1]
        mass_before = np.cumsum(np.exp(dense), axis=1) - np.exp(dense)
        # Float16 cannot tell on which side of the limit an entry at the limit lies.
        certain = np.abs(mass_before - 0.5) > 1e-2
        np.testing.assert_array_equal((np.isfinite(kept))[certain], (np.isfinite(dense) & (mass_before < 0.5))[certain])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"top_k": 0, "top_p": 1.0, "row_length": 64}, "top_k is 0"),
        ({"top_k": 256, "top_p": 1.0, "row_length": 64}, "top_k is 256: give 1 to 255"),
        ({"top_k": 8, "top_p": 0.0, "row_length": 64}, "top_p is 0"),
        ({"top_k": 8, "top_p": 1.0, "row_length": 4096}, "row_length is 4096: give 2 to the teacher's context of 1024"),
    ],
)
def test_options_out_of_range_are_refused_by_name(config: ModelConfig, params: dict, options: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        next(score_documents(config, params, [np.array([1, 2])], **options))


@pytest.fixture
def source(tmp_path: Path, documents: list[np.ndarray], tokenizer: SentencePieceTokenizer) -> ShardSet:
    def document(index: int, tokens: np.ndarray) -> Document:
        mask = None if index % 2 else (np.arange(len(tokens)) >= len(tokens) // 2).astype(np.uint8)
        return Document(str(index), "python", "complete", tokens, mask if mask is None or mask.any() else None)

    return write_shards(
        tmp_path / "plain",
        [document(index, tokens) for index, tokens in enumerate(documents)],
        tokenizer=tokenizer,
        num_shards=3,
        provenance={"from": "random numbers"},
    )


class KilledError(Exception):
    pass


def test_scored_shards_hold_what_the_plain_ones_do_and_targets_where_tokens_are_learnt(
    source: ShardSet, tmp_path: Path, config: ModelConfig, params: dict, tokenizer: SentencePieceTokenizer, score
):
    options = {"teacher": "tiny", "top_k": 8, "top_p": 1.0, "row_length": ROW_LENGTH}
    done = []
    scored = score_shards(source, tmp_path / "soft", config, params, tokenizer, progress=done.append, **options)
    assert sum(done) == sum(LENGTHS)
    assert scored.provenance["from"] == "random numbers"
    assert scored.provenance["soft_targets"]["teacher"] == "tiny"
    expected = score([source.read(i).tokens for i in range(len(source))])
    for i in range(len(source)):
        plain, document = source.read(i), scored.read(i)
        np.testing.assert_array_equal(document.tokens, plain.tokens)
        np.testing.assert_array_equal(document.loss_mask, plain.loss_mask)
        learnt = np.ones(len(plain.tokens), bool) if plain.loss_mask is None else plain.loss_mask.astype(bool)
        has_target = document.soft_targets.counts > 0
        np.testing.assert_array_equal(has_target, np.append(learnt[1:], False))
        for got, want in zip(document.soft_targets.dense(8), expected[i].dense(8), strict=True):
            np.testing.assert_array_equal(got[has_target], want[has_target])


def test_a_killed_scoring_goes_on_to_the_same_bytes(
    source: ShardSet, tmp_path: Path, config: ModelConfig, params: dict, tokenizer: SentencePieceTokenizer
):
    options = {"teacher": "tiny", "top_k": 8, "top_p": 0.9, "row_length": ROW_LENGTH}

    def run(folder: str, progress=None) -> ShardSet:
        return score_shards(source, tmp_path / folder, config, params, tokenizer, progress=progress, **options)

    def die_in_the_second_shard(tokens: int) -> None:
        if len(list((tmp_path / "broken").glob("*.index"))) == 1:
            raise KilledError

    whole = run("whole")
    with pytest.raises(KilledError):
        run("broken", die_in_the_second_shard)
    first = next((tmp_path / "broken").glob("*-00000-of-00003"))
    written = first.stat().st_mtime_ns
    assert run("broken").fingerprint == whole.fingerprint
    assert first.stat().st_mtime_ns == written


def test_shards_of_another_tokenizer_are_refused(source: ShardSet, tmp_path: Path, config: ModelConfig, params: dict):
    other = train_sentencepiece(["something else entirely\n" * 50], 400)
    with pytest.raises(UserError, match="was made with tokenizer"):
        score_shards(source, tmp_path / "x", config, params, other, teacher="t", top_k=8, top_p=1.0, row_length=64)
