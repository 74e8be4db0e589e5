"""Every optimizer learns, lies on a mesh as its parameters do, and comes back from a checkpoint."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_step import ALONE, run

from demiurgic_jax.checkpoints.checkpoint import Card, CheckpointFolder
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.training.averages import ParameterAverage, average_parameters
from demiurgic_jax.training.moments import in_bfloat16, stochastic_round
from demiurgic_jax.training.optimizer import DIRECTIONS, OptimizerConfig, learning_rate_schedule, make_optimizer
from demiurgic_jax.training.state import abstract_state, new_state

STEPS = 20
SPREAD = MeshShape(data=2, fsdp=2, tensor=2)
# With its usual eps, Adam makes a whole update of the rounding of a gradient near zero.
BASE = OptimizerConfig(learning_rate=3e-3, warmup_steps=4, schedule="constant", eps=1e-4)
CONFIGS = {name: replace(BASE, name=name, learning_rate=1e-3 if name == "lion" else 3e-3) for name in DIRECTIONS}
VARIANTS = CONFIGS | {
    "adamw, bfloat16, average": replace(BASE, moments_dtype="bfloat16", ema_decay=0.9),
}


@pytest.fixture(scope="module")
def batches(train_set):
    loader = Loader(train_set, batch_size=8, row_length=32, seed=0, soft_targets=4)
    return [loader.batch(step) for step in range(STEPS)]


def bytes_of(state, device=None):
    """Of a state's arrays: all of them, or what one device holds."""
    leaves = jax.tree.leaves(state)
    if device is None:
        return sum(leaf.nbytes for leaf in leaves)
    return sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards if shard.device == device)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_optimizer_learns(name, model, params, batches):
    history, _ = run(model, params, batches, ALONE, optimizer=CONFIGS[name])
    losses = [float(row["loss"]) for row in history]
    assert losses[-1] < 0.9 * losses[0]


def updated(optimizer, mesh, model):
    """The updates of a second step, the state after it, and what the state's arrays should be like."""
    abstract = abstract_state(model, optimizer, mesh)
    values = jax.tree.map(lambda leaf: np.random.default_rng(0).normal(size=leaf.shape), abstract.params)
    state = new_state(values, abstract, optimizer)
    gradients = jax.tree.map(lambda x: 0.1 * jnp.sin(5 * x), state.params)
    placed = jax.tree.map(lambda leaf: leaf.sharding, (abstract.params, abstract.opt_state))
    update = jax.jit(optimizer.update, out_shardings=placed)
    _, opt_state = update(gradients, state.opt_state, state.params)
    updates, opt_state = update(gradients, opt_state, state.params)
    return updates, opt_state, abstract


@pytest.mark.parametrize("name", VARIANTS)
def test_on_a_mesh_it_is_shared_out_updates_as_on_one_device_and_is_restored(name, model, tokenizer, tmp_path):
    model = replace(model, embed_dim=128, num_heads=8, head_dim=16, mlp_dim=256)
    optimizer = make_optimizer(VARIANTS[name], STEPS)
    updates, opt_state, abstract = updated(optimizer, make_mesh(SPREAD), model)
    # Over fsdp and tensor a device holds a quarter; norms are whole everywhere, and all that Adafactor has is small.
    held = bytes_of(opt_state, jax.devices()[0]) / bytes_of(opt_state)
    assert held < (0.35 if name == "adafactor" else 0.27)

    expected, *_ = updated(optimizer, make_mesh(ALONE, jax.devices()[:1]), model)
    for ours, theirs in zip(*map(jax.tree.leaves, (updates, expected)), strict=True):
        assert np.linalg.norm(ours - np.asarray(theirs)) < 1e-4 * np.linalg.norm(theirs)

    with CheckpointFolder(tmp_path) as checkpoints:
        checkpoints.save(1, updates, tokenizer, Card(model), opt_state)
        checkpoints.wait()
        _, restored = checkpoints.restore(1, abstract.params, abstract.opt_state)
    assert jax.tree.structure(restored) == jax.tree.structure(opt_state)
    jax.tree.map(np.testing.assert_array_equal, restored, opt_state)
    assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, abstract.opt_state)


def test_adafactor_keeps_rows_and_columns_of_each_layers_matrix(model):
    """Of [2, 128, 8, 16] it keeps [2, 128] twice, though no two dimensions of the array itself are large."""
    large = replace(model, embed_dim=128, num_heads=8, head_dim=16, mlp_dim=256)
    state = abstract_state(large, make_optimizer(CONFIGS["adafactor"], STEPS), make_mesh(SPREAD)).opt_state
    rows, columns = optax.tree_utils.tree_get(state, "v_row"), optax.tree_utils.tree_get(state, "v_col")
    assert rows["layers"]["wq"].shape == columns["layers"]["wq"].shape == (2, 128)
    assert {rows["layers"]["wq"].sharding.spec[1], columns["layers"]["wq"].sharding.spec[1]} == {"fsdp", "tensor"}


def test_muon_makes_each_layers_matrix_orthogonal(params):
    optimizer = make_optimizer(replace(CONFIGS["muon"], weight_decay=0.0, warmup_steps=0, clip_norm=1e9), STEPS)
    rng = np.random.default_rng(0)
    gradients = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    E = params["embedding"].shape[1]
    for name, inputs in {"wq": E, "wk": E, "wo": None, "w_gate": E, "w_down": None}.items():
        for layer in np.asarray(updates["layers"][name]):
            matrix = layer.reshape((inputs, -1) if inputs else (-1, E))
            scale = 3e-3 * 0.2 * math.sqrt(max(matrix.shape))
            singular = np.linalg.svd(matrix / scale, compute_uv=False)
            assert 0.5 < singular.min() <= singular.max() < 1.5, name
    # Adam's first step is the sign of the gradient, but for the few that are as small as eps.
    np.testing.assert_allclose(np.quantile(np.abs(updates["embedding"]), [0.01, 0.99]), 3e-3, rtol=0.05)


def test_schedules_rise_then_go_each_its_way():
    def at(schedule, *steps):
        made = learning_rate_schedule(replace(BASE, learning_rate=1.0, warmup_steps=10, schedule=schedule), 110)
        return [float(made(step)) for step in steps]

    for schedule in ("cosine", "wsd", "linear", "constant"):
        np.testing.assert_allclose(at(schedule, 0, 5, 10), [1 / 11, 6 / 11, 1], rtol=1e-6)
    np.testing.assert_allclose(at("cosine", 60, 110), [0.55, 0.1], rtol=1e-5)
    np.testing.assert_allclose(at("linear", 60, 110), [0.55, 0.1], rtol=1e-5)
    np.testing.assert_allclose(at("wsd", 60, 90, 100, 110), [1, 1, 0.55, 0.1], rtol=1e-5)
    np.testing.assert_allclose(at("constant", 60, 110), [1, 1], rtol=1e-6)


def test_groups_of_parameters_have_their_own_learning_rates(params):
    factors = {"embedding": 0.1, "layers/w_*": 2.0, "layers/*": 0.5}
    optimizer = make_optimizer(replace(BASE, weight_decay=0.0, eps=1e-8, learning_rate_factors=factors), STEPS)
    gradients = jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    rate = 3e-3 / 5
    for name, factor in {"embedding": 0.1, "unembedding": 1.0, "final_norm": 1.0}.items():
        np.testing.assert_allclose(updates[name], -rate * factor, rtol=1e-4)
    np.testing.assert_allclose(updates["layers"]["w_up"], -rate * 2, rtol=1e-4)
    np.testing.assert_allclose(updates["layers"]["wq"], -rate / 2, rtol=1e-4)

    misspelt = make_optimizer(replace(BASE, learning_rate_factors={"embeding": 0.1}), STEPS)
    with pytest.raises(UserError, match="no parameter is called 'embeding'; there are embedding, "):
        misspelt.update(gradients, misspelt.init(params), params)


def test_the_average_of_parameters_follows_them():
    params, decay = {"w": jnp.zeros(3)}, 0.6
    optimizer = optax.chain(optax.identity(), average_parameters(decay))
    state, expected = optimizer.init(params), 0.0
    for step in range(20):
        updates, state = optimizer.update({"w": jnp.ones(3)}, state, params)
        params = optax.apply_updates(params, updates)
        keep = min(decay, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * (step + 1)
    assert isinstance(state[1], ParameterAverage)
    np.testing.assert_allclose(state[1].average["w"], expected, rtol=1e-6)


def test_stochastic_rounding_keeps_the_mean():
    value = 1 + 0.3 / 128  # between two neighbours in bfloat16
    rounded = stochastic_round(jnp.full(20_000, value, jnp.float32), jax.random.key(1)).astype(jnp.float32)
    assert set(np.unique(rounded)) == {1.0, 1 + 1 / 128}
    assert float(jnp.mean(rounded)) == pytest.approx(value, abs=5 * 0.5 / 128 / math.sqrt(20_000))
    negative = stochastic_round(jnp.full(20_000, -value, jnp.float32), jax.random.key(1)).astype(jnp.float32)
    np.testing.assert_array_equal(negative, -rounded)


def test_a_second_moment_in_bfloat16_does_not_stand_still():
    """A gradient that grows from 1 to 1.2 moves nu by 0.00044 a step, an eighth of bfloat16's spacing at 1."""
    adam = optax.scale_by_adam(0.9, 0.999)
    optimizer = in_bfloat16(adam)
    params = {"w": jnp.zeros(4096)}
    inner = adam.init(params)._replace(nu={"w": jnp.ones(4096)})
    state = optimizer.init(params)
    state = state._replace(inner=jax.tree.map(lambda x, like: x.astype(like.dtype), inner, state.inner))
    update = jax.jit(lambda state: optimizer.update({"w": jnp.full(4096, 1.2)}, state)[1])
    nearest = jnp.ones((), jnp.bfloat16)
    for _ in range(300):
        state = update(state)
        nearest = (0.999 * nearest.astype(jnp.float32) + 0.001 * 1.44).astype(jnp.bfloat16)
    assert float(nearest) == 1.0
    expected = 1.44 - 0.44 * 0.999**300
    assert float(jnp.mean(state.inner.nu["w"].astype(jnp.float32))) == pytest.approx(expected, rel=1e-3)


def test_moments_in_bfloat16_train_to_the_same_loss(model, params, batches):
    """To 0.5 % after twenty steps, from which float32 with another order of sums is 0.01 % away."""
    ends = []
    for dtype in ("float32", "bfloat16"):
        history, _ = run(model, params, batches, ALONE, optimizer=replace(BASE, beta2=0.99, moments_dtype=dtype))
        ends.append(float(history[-1]["loss"]))
    assert ends[1] == pytest.approx(ends[0], rel=5e-3)
    assert ends[0] != ends[1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "adam"}, "name='adam' is unknown: choose one of adamw, adafactor, lion, muon, schedule_free"),
        ({"schedule": "step"}, "schedule='step' is unknown: choose one of cosine, wsd, linear, constant"),
        ({"moments_dtype": "float16"}, "moments_dtype='float16' is unknown: choose one of float32, bfloat16"),
        ({"ema_decay": 1.0}, r"ema_decay=1\.0 must be at least 0"),
        ({"decay_fraction": 0.0}, r"decay_fraction=0\.0 must be above 0"),
        ({"name": "schedule_free"}, "takes no schedule=cosine: set it to constant"),
        ({"name": "schedule_free", "schedule": "constant", "ema_decay": 0.9}, "averages by itself"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(fields, said):
    with pytest.raises(UserError, match=said):
        OptimizerConfig(**fields)
