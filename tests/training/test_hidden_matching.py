"""Hidden states brought near to the teacher's: the formulas, every mesh, a kill, and what is not exported."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_loop import PowerCutError
from test_online_teacher import ALONE, LOSS, MESHES, TEACHER, prepared

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sharding.placement import put_batch
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.hidden_matching import HiddenConfig, hidden_matching
from demiurgic_jax.training.loop import train
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.metrics import MetricsConfig, read_metrics
from demiurgic_jax.training.online_teacher import TeacherConfig, TeacherModel
from demiurgic_jax.training.optimizer import OptimizerConfig
from demiurgic_jax.training.state import abstract_state, new_state
from demiurgic_jax.training.step import make_train_step

PAIRS = ((0, 1), (1, 2))


@pytest.fixture(scope="module")
def teacher(tokenizer) -> TeacherModel:
    return TeacherModel(TEACHER, jax.tree.map(np.asarray, init_params(Decoder(TEACHER), jax.random.key(7))), tokenizer)


@pytest.fixture(scope="module")
def batch(train_set):
    return Loader(train_set, batch_size=8, row_length=32, seed=0).batch(0)


def matched(model, teacher, measure="cosine"):
    return hidden_matching(HiddenConfig(1.0, measure, PAIRS), model, teacher, optax.adam(1e-2))


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("scan_layers", [True, False])
def test_chosen_layers_are_what_a_network_that_ends_there_gives(scan_layers, remat, teacher, batch):
    inputs = batch.tokens, batch.positions, batch.segment_ids
    decoder = Decoder(TEACHER, remat=remat, scan_layers=scan_layers)
    weights = {"params": teacher.params}
    hidden, chosen = jax.jit(lambda: decoder.apply(weights, *inputs, (2, 0), method="with_layers"))()
    np.testing.assert_allclose(hidden, decoder.apply(weights, *inputs)[0], rtol=1e-5, atol=1e-5)
    for place, layer in enumerate((2, 0)):
        ending = Decoder(replace(TEACHER, num_layers=layer + 1))
        params = teacher.params | {"layers": jax.tree.map(lambda w, n=layer: w[: n + 1], teacher.params["layers"])}
        expected, _, _ = ending.apply({"params": params}, *inputs, None, (), method="through_layers")
        np.testing.assert_allclose(chosen[place], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("measure", ["cosine", "mse"])
@pytest.mark.parametrize("widths", [(5, 7), (6, 6)])
def test_distances_and_gradients_are_those_of_the_formulas(measure, widths, model):
    rng = np.random.default_rng(0)
    B, S, P = 2, 4, 2
    student, other = (rng.normal(size=(P, B, S, width)).astype(np.float32) for width in widths)
    weights = (rng.integers(0, 2, (B, S)) * rng.uniform(0.5, 2, (B, S))).astype(np.float32)
    matching = replace(matched(model, TEACHER, measure), widths=widths)
    projection = np.asarray(rng.normal(size=(P, *widths)), np.float32) if matching.projects else ()
    value, gradients = jax.jit(
        jax.value_and_grad(lambda s, p: matching.distance(s, jnp.asarray(other), jnp.asarray(weights), p), (0, 1))
    )(student, projection)

    total, d_student, d_projection = 0.0, np.zeros(student.shape), np.zeros((P, *widths))
    for p, b, s in np.ndindex(P, B, S):
        x, right = student[p, b, s].astype(np.float64), other[p, b, s].astype(np.float64)
        weight = weights[b, s] / P
        matrix = projection[p].astype(np.float64) if matching.projects else np.eye(widths[0])
        left = x @ matrix
        if measure == "mse":
            distance, d_left = ((left - right) ** 2).mean(), 2 * (left - right) / len(left)
        else:
            lengths = np.linalg.norm(left) * np.linalg.norm(right)
            cosine = left @ right / lengths
            distance, d_left = 1 - cosine, cosine * left / (left @ left) - right / lengths
        total += weight * distance
        d_student[p, b, s] = weight * matrix @ d_left
        d_projection[p] += weight * np.outer(x, d_left)
    assert float(value) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(gradients[0], d_student, rtol=1e-5, atol=1e-5)
    if matching.projects:
        np.testing.assert_allclose(gradients[1], d_projection, rtol=1e-5, atol=1e-5)


def step_once(model, params, batch, teacher, shape, grad_accum_steps=1):
    mesh, decoder, online, optimizer, _ = prepared(model, teacher, shape)
    matching = matched(model, online.decoder.config)
    abstract = abstract_state(model, optimizer, mesh, matching)
    step = make_train_step(
        decoder,
        optimizer,
        LOSS,
        mesh,
        abstract,
        grad_accum_steps,
        teacher=online,
        matching=matching,
        hidden_weight=lambda step: jnp.float32(3.0),
    )
    state = new_state(params, abstract, optimizer, matching, seed=1)
    state, metrics = step(state, put_batch(batch, mesh), online.place(teacher))
    return jax.device_get(metrics), jax.device_get(state)


@pytest.fixture(scope="module")
def alone(model, params, batch, teacher):
    return step_once(model, params, batch, teacher, ALONE)


@pytest.mark.parametrize("name", [name for name in MESHES if name != "alone"])
def test_every_mesh_gives_the_step_of_one_device(name, model, params, batch, teacher, alone):
    metrics, state = step_once(model, params, batch, teacher, MESHES[name])
    for metric in ("loss", "hidden", "kl", "grad_norm"):
        assert float(metrics[metric]) == pytest.approx(float(alone[0][metric]), rel=1e-4), metric
    np.testing.assert_allclose(state.projection.moments[0].mu, alone[1].projection.moments[0].mu, rtol=1e-3, atol=1e-7)


def test_micro_batches_give_it_too(model, params, batch, teacher, alone):
    metrics, _ = step_once(model, params, batch, teacher, MESHES["alone"], grad_accum_steps=2)
    for metric in ("loss", "hidden", "grad_norm"):
        assert float(metrics[metric]) == pytest.approx(float(alone[0][metric]), rel=1e-4), metric


def test_the_loss_has_the_distance_of_learnt_tokens_with_its_weight(model, params, batch, teacher, alone):
    metrics = alone[0]
    distilled = 0.7 * LOSS.temperature**2 * metrics["divergence"] + 0.3 * metrics["cross_entropy"]
    distilled += LOSS.z_loss * metrics["z_loss"]
    assert float(metrics["loss"]) == pytest.approx(float(distilled + 3 * metrics["hidden"]), rel=1e-4)
    noise = np.random.default_rng(0).integers(0, 400, batch.tokens.shape)
    padding = batch.segment_ids == 0
    assert padding.any()
    other = batch._replace(tokens=np.where(padding, noise, batch.tokens))
    again, _ = step_once(model, params, other, teacher, ALONE)
    assert float(again["hidden"]) == pytest.approx(float(metrics["hidden"]), rel=1e-6)


def test_a_broken_run_goes_on_with_the_same_projection_and_exports_none(
    model, params, tokenizer, train_set, heldout_set, teacher, tmp_path
):
    config = TrainConfig(
        steps=6,
        batch_size=8,
        context=32,
        checkpoint_every=2,
        eval_every=6,
        loss=LossConfig(0.5, chunk_tokens=16),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=0),
        teacher=TeacherConfig(online=True),
        hidden=HiddenConfig(2.0, "cosine", PAIRS, "linear", final_weight=1.0),
        metrics=MetricsConfig(tensorboard="off"),
    )

    def run(folder, stop_after=0):
        def on_step(step, metrics):
            if step == stop_after:
                raise PowerCutError

        train(
            config,
            model,
            tokenizer,
            train_set,
            {"heldout": heldout_set},
            folder=folder,
            initial_params=lambda: params,
            provenance={},
            on_step=on_step,
            open_teacher=lambda: teacher,
        )

    run(tmp_path / "whole")
    with pytest.raises(PowerCutError):
        run(tmp_path / "broken", stop_after=5)
    run(tmp_path / "broken")
    mine, its = (open_model(tmp_path / name / "checkpoints") for name in ("broken", "whole"))
    assert mine.card == its.card  # with the digests of all arrays, the projection and its moments among them
    assert jax.tree.structure(mine.params) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, mine.params, its.params)
    rows = [row for row in read_metrics(tmp_path / "whole" / "metrics.jsonl") if "hidden" in row]
    assert rows[-1]["hidden"] < rows[0]["hidden"]
    assert [row["hidden_weight"] for row in rows[:3]] == pytest.approx([2.0, 2 - 1 / 6, 2 - 2 / 6])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weight": -1.0}, r"train\.hidden\.weight=-1\.0 must be at least 0"),
        ({"measure": "l1"}, "measure='l1' is unknown: choose one of cosine, mse"),
        ({"layers": (3,)}, r"train\.hidden\.layers has 3: write pairs"),
        ({"fraction": 0.0}, r"train\.hidden\.fraction=0\.0 must be above 0"),
    ],
)
def test_bad_fields_are_refused(fields, said):
    with pytest.raises(UserError, match=said):
        HiddenConfig(**fields)


def test_layers_that_are_not_there_are_refused(model):
    for pairs, said in (
        (((2, 0),), "has layer 2 of the student, which has layers 0 to 1"),
        (((0, 9),), "has layer 9 of the teacher, which has layers 0 to 2"),
        (((0, 1), (0, 2)), "names a layer twice"),
    ):
        with pytest.raises(UserError, match=said):
            hidden_matching(HiddenConfig(1.0, layers=pairs), model, TEACHER, optax.adam(1e-3))
    with pytest.raises(UserError, match=r"set train\.teacher\.online=True"):
        TrainConfig(steps=1, batch_size=1, context=8, hidden=HiddenConfig(1.0))
