"""AdamW as configured: what decays, what is clipped, and the learning rate over a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer

MODEL = ModelConfig(64, 16, 2, 2, 1, 8, 24, qk_norm=True, qkv_bias=True)


def test_matrices_decay_and_gains_and_biases_do_not():
    params = jax.tree.map(lambda x: x + 1.0, init_params(Decoder(MODEL), jax.random.key(0)))
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=0, weight_decay=0.5)
    optimizer = make_optimizer(config, steps=10)
    updates, _ = jax.jit(optimizer.update)(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    decayed = {
        jax.tree_util.keystr(path)
        for path, update in jax.tree_util.tree_flatten_with_path(updates)[0]
        if np.abs(update).max() > 0
    }
    matrices = ("wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down")
    assert decayed == {"['embedding']", "['unembedding']", *(f"['layers']['{name}']" for name in matrices)}
    np.testing.assert_allclose(updates["embedding"], -0.1 * 0.5 * params["embedding"], rtol=1e-6)


def test_learning_rate_rises_linearly_then_falls_along_a_cosine():
    config = OptimizerConfig(learning_rate=2e-3, warmup_steps=10, final_fraction=0.1)
    schedule = learning_rate_schedule(config, 110)
    np.testing.assert_allclose([schedule(step) for step in (0, 5, 10)], [2e-3 / 11, 1.2e-3 / 1.1, 2e-3], rtol=1e-6)
    halfway = (2e-3 + 2e-4) / 2
    np.testing.assert_allclose([schedule(60), schedule(110), schedule(500)], [halfway, 2e-4, 2e-4], rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
    """Adam forgets a constant scale, so it is seen in the moments: two gradients of 1000 count as one of norm 1."""
    params = {"wq": jnp.ones((3, 4)), "wo": jnp.ones((4,))}
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=0, clip_norm=1.0), steps=10)
    gradients = jax.tree.map(lambda x: 1000 * x, params)
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    first_moment = optax.tree_utils.tree_get(state, "mu")
    np.testing.assert_allclose(first_moment["wq"], 0.1 / 4, rtol=1e-5)  # (1 - β1) · 1 / sqrt(16)


def test_warmup_longer_than_the_run_is_refused():
    with pytest.raises(UserError, match=r"optimizer\.warmup_steps=100 leaves nothing of train\.steps=50"):
        make_optimizer(OptimizerConfig(), steps=50)
