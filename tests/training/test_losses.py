"""The chunked losses are the dense ones: values and gradients, for any shape and chunk."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_losses import Teacher, dense_sums
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.vocabulary_blocks import sample_by_blocks
from demiurgic_jax.training.blending import Schedule
from demiurgic_jax.training.divergences import DIVERGENCES
from demiurgic_jax.training.losses import Blend, LossConfig, LossSums, TeacherStates, next_token_loss


def random_case(seed, *, B=2, S=6, V=23, E=5, K=3, teacher=True):
    """Hidden states, unembedding, and a batch with prompts, padding, and positions without a teacher."""
    rng = np.random.default_rng(seed)
    batch = Batch(
        tokens=rng.integers(0, V, (B, S)),
        targets=rng.integers(0, V, (B, S)),
        positions=np.zeros((B, S), np.int32),
        segment_ids=np.ones((B, S), np.int32),
        loss_weights=(rng.integers(0, 2, (B, S)) * rng.uniform(0.5, 2, (B, S))).astype(np.float32),
    )
    if teacher:
        probs = -np.sort(-rng.dirichlet(np.ones(K + 1), (B, S)))[..., :K]
        ids = np.stack([rng.permutation(V)[:K] for _ in range(B * S)]).reshape(B, S, K)
        used = np.arange(K) < rng.integers(0, K + 1, (B, S, 1))
        logprobs = np.where(used, np.log(probs), -np.inf).astype(np.float32)
        batch = batch._replace(teacher_ids=np.where(used, ids, 0), teacher_logprobs=logprobs)
    hidden = rng.normal(0, 1, (B, S, E)).astype(np.float32)
    unembedding = rng.normal(0, 1, (V, E)).astype(np.float32)
    return hidden, unembedding, batch


def random_teacher(seed, hidden, unembedding, *, E=7, scale=0.7):
    """Beside the student: of another width, and without pieces for the last ids."""
    rng = np.random.default_rng(seed)
    V = len(unembedding)
    return Teacher(
        rng.normal(0, scale, (*hidden.shape[:2], E)).astype(np.float32),
        rng.normal(0, scale, (V, E)).astype(np.float32),
        np.arange(V) < V - 2,
    )


def sums_and_gradients(hidden, unembedding, batch, config, blend=None, teacher=None):
    teacher = teacher and jax.tree.map(jnp.asarray, TeacherStates(*teacher))

    def objective(hidden, unembedding):
        sums = next_token_loss(hidden, unembedding, batch, config, None, blend, teacher)
        return sums.loss, sums

    gradient = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))
    gradients, sums = gradient(jnp.asarray(hidden), jnp.asarray(unembedding))
    return sums, gradients


def distance(ours, expected) -> float:
    """Of two arrays, relative to the norm of what is expected."""
    return float(np.linalg.norm(ours - expected) / (np.linalg.norm(expected) + 1e-3))


def assert_dense(hidden, unembedding, batch, config, computed, teacher=None, tolerance=1e-6):
    sums, gradients = computed
    expected, expected_gradients = dense_sums(hidden, unembedding, batch, config, teacher)
    for name in LossSums._fields:
        assert float(getattr(sums, name)) == pytest.approx(expected[name], rel=tolerance, abs=tolerance), name
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert distance(ours, theirs) < tolerance


@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_losses_and_gradients_are_those_of_the_formulas(teacher, temperature, z_loss):
    config = LossConfig(0.7 if teacher else 0.0, temperature, z_loss, chunk_tokens=2)
    case = random_case(0, teacher=teacher)
    computed = sums_and_gradients(*case, config)
    assert_dense(*case, config, computed)
    # Without a gradient asked for, another path computes the same sums.
    plain = jax.jit(next_token_loss, static_argnums=3)(*case, config)
    np.testing.assert_allclose(plain, computed[0], rtol=1e-6, atol=1e-6)


@settings(max_examples=16, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    B=st.integers(1, 3),
    S=st.integers(1, 9),
    V=st.integers(5, 30),
    K=st.integers(1, 4),
    chunk_tokens=st.integers(1, 12),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
    distill_weight=st.sampled_from([0.0, 0.3, 1.0]),
    divergence=st.sampled_from(list(DIVERGENCES)),
    jsd_beta=st.sampled_from([0.1, 0.5, 0.9]),
    online=st.booleans(),
)
def test_any_shape_chunk_and_divergence(
    seed, B, S, V, K, chunk_tokens, temperature, distill_weight, divergence, jsd_beta, online
):
    config = LossConfig(distill_weight, temperature, 1e-3, chunk_tokens, divergence, jsd_beta)
    case = random_case(seed, B=B, S=S, V=V, K=K)
    teacher = random_teacher(seed, *case[:2]) if online else None
    computed = sums_and_gradients(*case, config, teacher=teacher)
    assert_dense(*case, config, computed, teacher, tolerance=1e-5)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_blend_takes_the_place_of_the_configs_alpha_and_temperature(divergence):
    case = random_case(7)
    blended = LossConfig(0.4, 2.5, divergence=divergence)
    computed = sums_and_gradients(*case, LossConfig(1.0, divergence=divergence), Blend(*map(jnp.float32, (0.4, 2.5))))
    assert_dense(*case, blended, computed, tolerance=1e-5)


def test_alpha_and_temperature_move_over_the_first_part_of_a_phase_and_stay():
    config = LossConfig(0.8, 4.0, final_distill_weight=0.2, final_temperature=1.0, blend_fraction=0.5)
    assert Schedule(config, 0, 100)(jnp.int32(3)) is None
    linear = Schedule(replace(config, blend_schedule="linear"), 20, 100)
    for step, expected in ((20, (0.8, 4.0)), (45, (0.5, 2.5)), (70, (0.2, 1.0)), (119, (0.2, 1.0))):
        np.testing.assert_allclose(linear(jnp.int32(step)), expected, rtol=1e-6)
    cosine = Schedule(replace(config, blend_schedule="cosine"), 20, 100)
    np.testing.assert_allclose(cosine(jnp.int32(45)), (0.5, 2.5), rtol=1e-6)
    assert float(cosine(jnp.int32(30)).temperature) > float(linear(jnp.int32(30)).temperature)


def test_stored_entries_without_a_rest_are_the_whole_distribution():
    """Where K reaches the vocabulary, soft targets and an online teacher are one."""
    hidden, unembedding, batch = random_case(8, V=6)
    teacher = random_teacher(8, hidden, unembedding)._replace(real=None)
    logprobs = jax.nn.log_softmax(teacher.hidden @ teacher.unembedding.T, axis=-1)
    stored = batch._replace(
        teacher_ids=np.broadcast_to(np.arange(6), logprobs.shape), teacher_logprobs=np.asarray(logprobs)
    )
    for divergence in DIVERGENCES:
        config = LossConfig(0.6, 1.0, divergence=divergence)  # tempered, the rest's floor of 1e-7 would show
        buckets = sums_and_gradients(hidden, unembedding, stored, config)
        full = sums_and_gradients(hidden, unembedding, batch, config, teacher=teacher)
        for ours, theirs in zip(jax.tree.leaves(buckets), jax.tree.leaves(full), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_chunk_size_changes_nothing_but_rounding():
    hidden, unembedding, batch = random_case(1, S=12)
    config = LossConfig(0.5, 2.0, 1e-3, chunk_tokens=12)
    sums, gradients = sums_and_gradients(hidden, unembedding, batch, config)
    for chunk_tokens in (1, 4, 5):
        others = sums_and_gradients(hidden, unembedding, batch, replace(config, chunk_tokens=chunk_tokens))
        for ours, theirs in zip(jax.tree.leaves((sums, gradients)), jax.tree.leaves(others), strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_prompt_and_padding_contribute_nothing(divergence):
    hidden, unembedding, batch = random_case(2)
    config = LossConfig(0.5, 1.0, 1e-2, divergence=divergence)
    sums, (d_hidden, d_unembedding) = sums_and_gradients(hidden, unembedding, batch, config)
    silent = batch.loss_weights == 0
    assert 0 < silent.sum() < silent.size
    np.testing.assert_array_equal(d_hidden[silent], 0)
    assert (np.abs(d_hidden[~silent]).max(-1) > 0).all()

    other_hidden, _, other = random_case(3)
    mixed = batch._replace(
        targets=np.where(silent, other.targets, batch.targets),
        teacher_ids=np.where(silent[..., None], other.teacher_ids, batch.teacher_ids),
        teacher_logprobs=np.where(silent[..., None], other.teacher_logprobs, batch.teacher_logprobs),
    )
    hidden = np.where(silent[..., None], other_hidden, hidden)
    sums_2, (d_hidden_2, d_unembedding_2) = sums_and_gradients(hidden, unembedding, mixed, config)
    np.testing.assert_allclose(sums_2, sums, rtol=1e-6)
    np.testing.assert_allclose(d_hidden_2[~silent], d_hidden[~silent], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(d_unembedding_2, d_unembedding, rtol=1e-5, atol=1e-6)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    hidden, unembedding, batch = random_case(4, V=8)
    logprobs = jax.nn.log_softmax(hidden @ unembedding.T, axis=-1)
    ids = np.argsort(-logprobs, axis=-1)[..., :5]
    batch = batch._replace(teacher_ids=ids, teacher_logprobs=np.take_along_axis(np.asarray(logprobs), ids, -1))
    for temperature, divergence in itertools.product((1.0, 2.0), DIVERGENCES):
        config = LossConfig(1.0, temperature, divergence=divergence)
        sums, gradients = sums_and_gradients(hidden, unembedding, batch, config)
        assert float(sums.divergence) == pytest.approx(0, abs=1e-5)
        assert max(np.abs(g).max() for g in gradients) < 1e-5


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_extremes_stay_finite(divergence):
    """A certain teacher whose sixteen-bit mass passes 1, an almost certain student, logits in the hundreds."""
    hidden, unembedding, batch = random_case(5)
    batch = batch._replace(teacher_logprobs=np.full_like(batch.teacher_logprobs, -np.inf))
    batch.teacher_logprobs[..., 0] = 0.0005
    config = LossConfig(1.0, 1.0, 1e-4, divergence=divergence)
    sums, gradients = sums_and_gradients(hidden * 50, unembedding * 5, batch, config)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((sums, gradients)))
    assert float(sums.divergence) > 0


def test_bfloat16_comes_back_as_bfloat16_and_losses_as_float32():
    hidden, unembedding, batch = random_case(6)
    sums, gradients = sums_and_gradients(
        hidden.astype(jnp.bfloat16), unembedding.astype(jnp.bfloat16), batch, LossConfig(0.5)
    )
    assert {g.dtype for g in gradients} == {np.dtype(jnp.bfloat16)}
    assert {x.dtype for x in sums} == {np.dtype(np.float32)}
    expected, _ = dense_sums(hidden, unembedding, batch, LossConfig(0.5))
    assert float(sums.loss) == pytest.approx(expected["loss"], rel=0.03)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"distill_weight": 1.5}, r"loss\.distill_weight=1\.5 is outside 0\.\.1"),
        ({"temperature": 0.0}, r"loss\.temperature=0\.0 must be above 0"),
        ({"chunk_tokens": 0}, r"loss\.chunk_tokens=0 must be at least 1"),
        ({"divergence": "kl"}, r"loss\.divergence='kl' is unknown: choose one of forward_kl, reverse_kl, jsd"),
        ({"jsd_beta": 1.0}, r"loss\.jsd_beta=1\.0 must lie between 0 and 1"),
        ({"blend_schedule": "step"}, r"loss\.blend_schedule='step' is unknown"),
        ({"blend_fraction": 0.0}, r"loss\.blend_fraction=0\.0 must be above 0"),
        ({"final_temperature": float("nan")}, r"loss\.final_temperature=nan must be above 0"),
    ],
)
def test_impossible_settings_are_refused_by_field(fields, said):
    with pytest.raises(UserError, match=said):
        LossConfig(**fields)


def test_samples_are_compared_without_a_rest_and_without_being_normalised():
    """Value and gradients of Σ w·(log w - log q), of which some positions are samples and the others buckets."""
    hidden, unembedding, batch = random_case(11, K=3)
    sampled = np.arange(6) % 2 == np.arange(2)[:, None]
    config = LossConfig(1.0, chunk_tokens=2)
    sums, gradients = sums_and_gradients(hidden, unembedding, batch._replace(teacher_sampled=sampled), config)
    silent = batch._replace(teacher_logprobs=np.where(sampled[..., None], -np.inf, batch.teacher_logprobs))
    buckets = silent._replace(loss_weights=np.where(sampled, 0, batch.loss_weights))
    expected, (d_hidden, d_unembedding) = dense_sums(hidden, unembedding, buckets, config)
    expected_loss = expected["loss"]
    hidden64, unembedding64 = hidden.astype(np.float64), unembedding.astype(np.float64)
    logits = hidden64 @ unembedding64.T
    log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for b, s in zip(*np.nonzero(sampled), strict=True):
        used = np.isfinite(batch.teacher_logprobs[b, s])
        ids, log_w = batch.teacher_ids[b, s][used], batch.teacher_logprobs[b, s][used].astype(np.float64)
        weight = float(batch.loss_weights[b, s])
        if used.any():
            expected_loss += weight * (np.exp(log_w) * (log_w - log_q[b, s, ids])).sum()
            d_logits = np.exp(log_w).sum() * np.exp(log_q[b, s])
            d_logits[ids] -= np.exp(log_w)
        else:  # no teacher: cross-entropy
            expected_loss -= weight * log_q[b, s, batch.targets[b, s]]
            d_logits = np.exp(log_q[b, s])
            d_logits[batch.targets[b, s]] -= 1
        d_hidden[b, s] += weight * d_logits @ unembedding64
        d_unembedding += weight * np.outer(d_logits, hidden64[b, s])
    assert float(sums.loss) == pytest.approx(expected_loss, rel=1e-5)
    assert distance(gradients[0], d_hidden) < 1e-5
    assert distance(gradients[1], d_unembedding) < 1e-5


def test_the_mean_gradient_over_samples_is_that_of_the_whole_distribution():
    """Of the same four tokens in 1,024 rows, each with samples of its own."""
    hidden, unembedding, batch = random_case(12, B=1, S=4, V=300, teacher=False)
    teacher = random_teacher(13, hidden, unembedding, scale=0.5)
    draws, K = 1024, 8
    batch.loss_weights[:] = [[1.0, 0.5, 2.0, 1.5]]
    hidden, batch = jax.tree.map(lambda x: np.tile(x, (draws, *[1] * (x.ndim - 1))), (hidden, batch))
    teacher = teacher._replace(hidden=np.tile(teacher.hidden, (draws, 1, 1)))
    _, whole = sums_and_gradients(hidden, unembedding, batch, LossConfig(1.0), teacher=teacher)
    logits = teacher.hidden.reshape(4 * draws, -1) @ teacher.unembedding.T
    logits[:, ~teacher.real] = -np.inf
    normalizer = np.log(np.exp(logits).sum(-1, keepdims=True))
    shifts = np.repeat((np.arange(draws) + 0.5) / draws, 4).astype(np.float32)
    ids, values = map(np.asarray, sample_by_blocks(jnp.asarray(logits), normalizer, shifts, K))
    weights = np.where(np.isfinite(values), np.maximum(values - normalizer, -np.log(K)), -np.inf)
    stored = batch._replace(
        teacher_ids=ids.reshape(draws, 4, K),
        teacher_logprobs=weights.reshape(draws, 4, K).astype(np.float32),
        teacher_sampled=np.ones((draws, 4), bool),
    )
    _, gradients = sums_and_gradients(hidden, unembedding, stored, LossConfig(1.0))
    assert distance(np.asarray(gradients[0]).mean(0), np.asarray(whole[0]).mean(0)) < 0.02
    assert distance(gradients[1], whole[1]) < 0.02


@pytest.mark.parametrize(
    "config",
    [
        LossConfig(1.0, 2.0),
        LossConfig(0.5, divergence="jsd"),
        LossConfig(1.0, blend_schedule="linear", final_temperature=2.0),
    ],
)
def test_samples_are_refused_by_losses_that_are_not_linear_in_them(config):
    with pytest.raises(UserError, match="which teach the forward KL at temperature 1 alone"):
        config.require_linear()
    LossConfig(1.0).require_linear()
