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
from demiurgic_jax.data.soft_targets import SOFT_TARGET_KINDS, SoftTargets
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sampling.scoring import Scorer, ScoringConfig, score_documents, score_shards
from demiurgic_jax.sampling.vocabulary_blocks import sample_by_blocks, top_k_by_blocks
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh

ROW_LENGTH = 192
LENGTHS = [1, 2, 63, 64, 65, 150, 192, 193, 500, 7, 130, 20]


@pytest.fixture(scope="module")
def documents(config: ModelConfig) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(config.vocab_size, size=length) for length in LENGTHS]


@pytest.fixture(scope="module")
def score(config: ModelConfig, params: dict) -> Callable[..., list[SoftTargets]]:
    def score(documents: list[np.ndarray], *, top_p: float = 1.0, row_length: int = ROW_LENGTH) -> list[SoftTargets]:
        return list(score_documents(config, params, documents, ScoringConfig(8, top_p, row_length)))

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
        ({"top_k": 0, "top_p": 1.0, "row_length": 64, "kind": "sampled"}, "0 samples .*: give 2 to 255"),
        (
            {"top_k": 8, "top_p": 1.0, "row_length": 64, "kind": "all"},
            "kind 'all' are unknown: choose top_p or sampled",
        ),
        ({"top_k": 8, "top_p": 0.0, "row_length": 64}, "top_p is 0"),
        ({"top_k": 8, "top_p": 1.0, "row_length": 4096}, "row_length is 4096: give 2 to the teacher's context of 1024"),
    ],
)
def test_options_out_of_range_are_refused_by_name(config: ModelConfig, params: dict, options: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        next(score_documents(config, params, [np.array([1, 2])], ScoringConfig(**options)))


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


def test_scored_shards_hold_what_the_plain_ones_do_and_targets_where_tokens_are_learnt(
    source: ShardSet, tmp_path: Path, config: ModelConfig, params: dict, tokenizer: SentencePieceTokenizer, score
):
    options = ScoringConfig(8, 1.0, ROW_LENGTH)
    done = []
    scored = score_shards(
        source, tmp_path / "soft", config, params, tokenizer, options, teacher="tiny", progress=done.append
    )
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


def test_shards_of_another_tokenizer_are_refused(source: ShardSet, tmp_path: Path, config: ModelConfig, params: dict):
    other = train_sentencepiece(["something else entirely\n" * 50], 400)
    with pytest.raises(UserError, match="was made with tokenizer"):
        score_shards(source, tmp_path / "x", config, params, other, ScoringConfig(8, 1.0, 64), teacher="t")


def test_ids_without_a_piece_are_never_targets(config: ModelConfig, params: dict):
    """A vocabulary may be larger than its tokenizer; what it has beyond was never trained."""
    pieces = config.vocab_size - 40
    tokens = np.arange(3, 70) % pieces
    spoilt = {name: value for name, value in params.items()}
    name = "embedding" if config.tie_embeddings else "unembedding"
    spoilt[name] = np.array(params[name])
    spoilt[name][pieces:] *= 50
    scoring = ScoringConfig(8, 1.0, 128)
    (_, soft), *_ = Scorer(config, spoilt, scoring, pieces).soft_targets([tokens])
    (_, expected), *_ = Scorer(config, params, scoring, pieces).soft_targets([tokens])
    assert soft.ids.max() < pieces
    assert_same(soft, expected)
    with pytest.raises(UserError, match=r"rows of logits for the \d+ pieces of its tokenizer"):
        Scorer(config, params, scoring, config.vocab_size + 1)


@pytest.mark.parametrize("kind", SOFT_TARGET_KINDS)
def test_logits_that_are_nan_are_refused_with_their_place(config: ModelConfig, params: dict, kind: str):
    spoilt = {**params, "final_norm": np.full_like(params["final_norm"], np.nan)}
    with pytest.raises(UserError, match="at token 0 of document 0 are NaN"):
        next(score_documents(config, spoilt, [np.arange(9)], ScoringConfig(8, 1.0, 64, kind=kind)))


def test_the_largest_are_found_by_blocks():
    logits = np.random.default_rng(0).normal(size=(5, 5001)).astype(np.float32)
    for k in (1, 7, 19):
        for ours, expected in zip(top_k_by_blocks(jnp.asarray(logits), k), jax.lax.top_k(logits, k), strict=True):
            np.testing.assert_array_equal(ours, expected)


def test_a_mesh_gives_the_targets_of_one_device(config: ModelConfig, params: dict, documents, score):
    mesh = make_mesh(MeshShape(data=2, fsdp=4))
    scoring = ScoringConfig(8, 1.0, ROW_LENGTH, mesh=mesh)
    for ours, alone in zip(score_documents(config, params, documents, scoring), score(documents), strict=True):
        np.testing.assert_array_equal(ours.counts, alone.counts)
        np.testing.assert_allclose(ours.dense(8)[1], alone.dense(8)[1], atol=2e-2)
    with pytest.raises(UserError, match="leave context and tensor at 1"):
        Scorer(config, params, ScoringConfig(8, 1.0, 64, mesh=make_mesh(MeshShape(fsdp=4, tensor=2))))


def test_processes_share_the_shards_and_the_last_one_closes_the_set(source, tmp_path, config, params, tokenizer):
    options = ScoringConfig(8, 0.9, ROW_LENGTH)

    def run(folder: str, part: tuple[int, int]) -> ShardSet | None:
        return score_shards(source, tmp_path / folder, config, params, tokenizer, options, teacher="tiny", part=part)

    alone = run("alone", (0, 1))
    assert run("shared", (1, 2)) is None
    assert len(list((tmp_path / "shared").glob("*.index"))) == 1
    assert run("shared", (0, 2)).fingerprint == alone.fingerprint
    with pytest.raises(UserError, match="part 2 of 2 does not exist"):
        run("shared", (2, 2))


class KilledError(Exception):
    pass


def test_a_stopped_scoring_goes_on_with_the_next_document(source, tmp_path, config, params, tokenizer):
    """Nothing that was finished is computed again, in whatever batches the others come."""
    options = ScoringConfig(8, 0.9, ROW_LENGTH, batch_tokens=192)
    total = int(source.lengths.sum())

    def run(folder: str, progress=None) -> ShardSet:
        return score_shards(
            source, tmp_path / folder, config, params, tokenizer, options, teacher="tiny", progress=progress
        )

    whole = run("whole")
    kept = [0]
    for limit in range(100, total, 150):
        heard: list[int] = []

        def stop(tokens: int, heard: list[int] = heard, limit: int = limit) -> None:
            heard.append(tokens)
            if sum(heard) >= limit:
                raise KilledError

        with pytest.raises(KilledError):
            run("broken", stop)
        kept.append(heard[0])
    assert kept[-1] > 0
    assert run("broken").fingerprint == whole.fingerprint
    assert not list((tmp_path / "broken").glob("*.scored"))


def test_a_sample_has_every_likely_entry_and_each_other_with_its_chance():
    """Over 4,096 shifts of one distribution, beyond one block of the vocabulary."""
    random, k, vocabulary = np.random.default_rng(3), 10, 500
    logits = 2.5 * random.normal(size=vocabulary)
    p = np.exp(logits) / np.exp(logits).sum()
    shifts = (np.arange(4096) + 0.5) / 4096
    rows = np.broadcast_to(logits.astype(np.float32), (4096, vocabulary))
    normalizer = np.full((4096, 1), np.log(np.exp(logits).sum()), np.float32)
    ids, values = map(np.asarray, sample_by_blocks(jnp.asarray(rows), normalizer, jnp.asarray(shifts, jnp.float32), k))
    drawn = np.isfinite(values)
    seen = np.bincount(ids[drawn], minlength=vocabulary) / 4096
    np.testing.assert_allclose(seen, np.minimum(1, k * p), atol=2e-3)
    np.testing.assert_allclose(values[drawn], logits[ids[drawn]], rtol=1e-5)
    counts = drawn.sum(axis=1)
    assert set(counts) <= {int(np.minimum(1, k * p).sum()), int(np.minimum(1, k * p).sum()) + 1}
    assert all(len(set(row[kept])) == kept.sum() for row, kept in zip(ids[:200], drawn[:200], strict=True))


def test_sampled_targets_are_the_same_in_any_company_and_come_back_from_a_shard(
    config, params, documents, full_logprobs, tokenizer, tmp_path
):
    scoring = ScoringConfig(8, 1.0, ROW_LENGTH, kind="sampled")
    together = list(score_documents(config, params, documents, scoring))
    for index in (8, 5):
        (alone,) = score_documents(config, params, [documents[index]], scoring)
        assert_same(alone, together[index])
    expected = full_logprobs(documents[5])[:-1]
    ids, logprobs = together[5].slice(0, len(expected)).dense(8)
    used = np.isfinite(logprobs)
    true = np.take_along_axis(expected, ids, axis=-1)[used]
    np.testing.assert_allclose(logprobs[used], np.maximum(true, -np.log(8)), atol=2e-2)
    source = write_shards(
        tmp_path / "source",
        [Document(str(i), "python", "code", tokens) for i, tokens in enumerate(documents)],
        tokenizer=tokenizer,
        num_shards=2,
        provenance={},
    )
    scored = score_shards(source, tmp_path / "scored", config, params, tokenizer, scoring, teacher="t")
    assert (scored.manifest["format"], scored.manifest["soft_target_samples"]) == (2, 8)
    for number, soft in enumerate(together):
        assert_same(scored.read(number).soft_targets, soft)
