"""Training with products in eight bits learns what training without them does."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.data.loader import Loader
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sharding.layout import layout_on
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.placement import put_batch
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.optimizer import OptimizerConfig, make_optimizer
from demiurgic_jax.training.products import weight_product
from demiurgic_jax.training.state import abstract_state, new_state
from demiurgic_jax.training.step import make_train_step

STEPS = 30


def make_run(model, params, kind):
    """The jitted step on a mesh of every axis, its first state, and the mesh."""
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    product = weight_product(kind, "cpu")
    decoder = Decoder(model, layout=layout_on(mesh), remat="full", gathered_once=0, project=product)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=3e-3, warmup_steps=4), STEPS)
    abstract = abstract_state(model, optimizer, mesh)
    step = make_train_step(decoder, optimizer, LossConfig(0.5, chunk_tokens=16), mesh, abstract)
    return step, new_state(params, abstract, optimizer), mesh


@pytest.fixture(scope="module")
def batches(train_set):
    loader = Loader(train_set, batch_size=8, row_length=32, seed=0, soft_targets=4)
    return [loader.batch(step) for step in range(STEPS)]


@pytest.fixture(scope="module")
def losses(model, params, batches):
    step, state, mesh = make_run(model, params, "none")
    return trained(step, state, mesh, batches)


def trained(step, state, mesh, batches):
    history = []
    for batch in batches:
        state, metrics = step(state, put_batch(batch, mesh))
        history.append(float(metrics["loss"]))
    return np.array(history)


@pytest.mark.parametrize(("kind", "types", "apart"), [("int8", "i8", 0.01), ("fp8", "f8E", 0.03)])
def test_it_learns_as_without(model, params, batches, losses, kind, types, apart):
    """Every step's loss is within 1 % (int8) or 3 % (fp8) of the unquantized run's."""
    step, state, mesh = make_run(model, params, kind)
    program = step.lower(state, put_batch(batches[0], mesh)).as_text()
    products = re.findall(r"dot_general .*: \(tensor<[\dx]*x(\w+)>, tensor<[\dx]*x(\w+)>\)", program)
    quantized = [each for each in products if each[0].startswith(types) and each[1].startswith(types)]
    # Seven weights: forward, forward again in the backward pass (but for the last, whose product is not needed there),
    # and two gradients; one layer's, for they are scanned.
    assert len(quantized) == 7 + 6 + 2 * 7
    ours = trained(step, state, mesh, batches)
    assert ours[-1] < 0.85 * ours[0]
    np.testing.assert_allclose(ours, losses, rtol=apart)
    assert (ours != losses).all()


def test_a_product_is_within_a_percent():
    x, w = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 8, 256), (256, 4, 32)]))
    exact = jnp.einsum("bse,ehd->bshd", x, w)

    class Product(Decoder):
        def __call__(self, x, w):
            return self.project("bse,ehd->bshd", x, w)

    for kind, apart in (("int8", 0.015), ("fp8", 0.05)):
        ours = Product(None, project=weight_product(kind, "cpu")).apply({"params": {}}, x, w)
        assert 0 < float(jnp.linalg.norm(ours - exact) / jnp.linalg.norm(exact)) < apart


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    weight_product.cache_clear()
    with pytest.raises(UserError, match=r"quantized_matmuls=int8 needs the package qwix: pip install .*\[quantized\]"):
        weight_product("int8", "tpu")
    assert weight_product("none", "tpu") is jnp.einsum


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match=r"quantized_matmuls='int4' is unknown: choose one of none, int8, fp8"):
        TrainConfig(steps=1, batch_size=1, context=8, quantized_matmuls="int4")


def test_products_in_bfloat16_round_what_float32_sums():
    """Value and both gradients of a CPU's product, against float64 and no further off than bfloat16's eight digits."""
    rng = np.random.default_rng(0)
    x, w, d = (rng.normal(size=shape) for shape in ((2, 24, 3, 16), (3, 16, 40), (2, 24, 40)))
    product = weight_product("none", "cpu")
    x16, w16, d16 = (jnp.asarray(array, jnp.bfloat16) for array in (x, w, d))
    value, backward = jax.vjp(lambda x, w: product("bshd,hde->bse", x, w), x16, w16)
    x64, w64, d64 = (np.asarray(array, np.float64) for array in (x16, w16, d16))
    expected = (
        np.einsum("bshd,hde->bse", x64, w64),
        np.einsum("bse,hde->bshd", d64, w64),
        np.einsum("bshd,bse->hde", x64, d64),
    )
    for ours, right in zip((value, *backward(d16)), expected, strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(ours, np.float64), right, rtol=2**-8, atol=1e-4)
