"""Every carrier of attention computes the textbook's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.attention import attention
from demiurgic_jax.model.attention_kernels import splash_attention

B, S, H, K, D = 2, 256, 4, 2, 128


def textbook(q, k, v, segments, key_segments, start):
    """Softmax over all keys, row by row."""
    k, v = (np.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("bshd,bthd->bhst", q, k) * q.shape[-1] ** -0.5
    seen = (start + np.arange(q.shape[1]))[:, None] >= np.arange(k.shape[1])
    seen = seen & (segments[:, :, None] == key_segments[:, None, :])
    scores = np.where(seen[:, None], scores, -np.inf)
    probs = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhst,bthd->bshd", probs / probs.sum(-1, keepdims=True), v)


@pytest.fixture(scope="module")
def qkv():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(B, S, heads, D)).astype(np.float32) for heads in (H, K, K)]
    return *arrays, np.sort(rng.integers(1, 4, (B, S)), axis=1).astype(np.int32)


CARRIERS = {
    "xla": attention,
    "splash": lambda *x, query_start=0: splash_attention(*x, query_start=query_start, interpret=True),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(("start", "stop"), [(0, S), (128, S), (0, 128)])
def test_values_are_the_textbooks(carrier, start, stop, qkv):
    q, k, v, segments = qkv
    ours = CARRIERS[carrier](q[:, start:stop], k, v, segments[:, start:stop], segments, query_start=start)
    expected = textbook(q[:, start:stop], k, v, segments[:, start:stop], segments, start)
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_xla_takes_a_start_known_only_on_the_device(qkv):
    q, k, v, segments = qkv
    part = jax.jit(lambda start: attention(q[:, 128:], k, v, segments[:, 128:], segments, query_start=start))
    np.testing.assert_allclose(part(jnp.int32(128)), attention(*qkv, segments)[:, 128:], atol=2e-5)


def test_the_kernels_gradients_are_those_of_plain_attention(qkv):
    q, k, v, segments = qkv
    weight = np.random.default_rng(1).normal(size=q.shape).astype(np.float32)

    def gradients(carrier):
        return jax.grad(lambda q, k, v: jnp.sum(carrier(q, k, v, segments, segments) * weight), argnums=(0, 1, 2))(
            q, k, v
        )

    for ours, expected in zip(gradients(CARRIERS["splash"]), gradients(attention), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_rows_that_a_tpu_cannot_take_are_refused(qkv):
    q, k, v, segments = qkv
    with pytest.raises(UserError, match="multiples of 128 tokens a device, not 100"):
        splash_attention(q[:, :100], k, v, segments[:, :100], segments, interpret=True)
