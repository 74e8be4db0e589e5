"""A teacher in the step: every mesh gives its distribution, it costs no gradients, and it must fit the student."""

import re
from dataclasses import replace

import jax
import numpy as np
import pytest
from dense_losses import Teacher, dense_sums

from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.model.quantized_weight import SUMMED, quantize
from demiurgic_jax.sharding.layout import layout_on
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.placement import put_batch
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.metrics import read_metrics
from demiurgic_jax.training.online_teacher import TeacherConfig, TeacherModel, online_teacher
from demiurgic_jax.training.optimizer import OptimizerConfig, make_optimizer
from demiurgic_jax.training.phases import PhasePlan, train_in_phases
from demiurgic_jax.training.state import abstract_state, new_state
from demiurgic_jax.training.step import make_eval_step, make_train_step, means

LOSS = LossConfig(0.7, 2.0, 1e-4, chunk_tokens=16, divergence="jsd", jsd_beta=0.3)
# Wider than the student, deeper, and with rows that no piece has.
TEACHER = ModelConfig(448, 48, 3, 4, 4, 12, 64, max_context=64, tie_embeddings=True)
ALONE = MeshShape(fsdp=1)
MESHES = {
    "alone": ALONE,
    "data × fsdp": MeshShape(data=4, fsdp=2),
    "fsdp × tensor": MeshShape(fsdp=4, tensor=2),
    "fsdp × context × tensor": MeshShape(fsdp=2, context=2, tensor=2),
}


@pytest.fixture(scope="module")
def teacher(tokenizer) -> TeacherModel:
    params = jax.tree.map(np.asarray, init_params(Decoder(TEACHER), jax.random.key(7)))
    params["embedding"] = params["embedding"] * 2  # sharper than random weights are
    return TeacherModel(TEACHER, params, tokenizer)


@pytest.fixture(scope="module")
def batch(train_set):
    return Loader(train_set, batch_size=8, row_length=32, seed=0).batch(0)


def prepared(model, teacher, shape, weights="compute"):
    mesh = make_mesh(shape, jax.devices()[:1] if shape == ALONE else None)
    decoder = Decoder(model, layout=layout_on(mesh), remat="full")
    online = online_teacher(teacher.config, teacher.tokenizer.vocab_size, TeacherConfig(True, weights), decoder, mesh)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-3, warmup_steps=0), 10)
    return mesh, decoder, online, optimizer, abstract_state(model, optimizer, mesh)


def step_once(model, params, batch, teacher, shape, *, weights="compute", grad_accum_steps=1):
    mesh, decoder, online, optimizer, abstract = prepared(model, teacher, shape, weights)
    step = make_train_step(decoder, optimizer, LOSS, mesh, abstract, grad_accum_steps, teacher=online)
    state, metrics = step(new_state(params, abstract, optimizer), put_batch(batch, mesh), online.place(teacher))
    return jax.device_get(metrics), jax.device_get(state.params)


@pytest.fixture(scope="module")
def alone(model, params, batch, teacher):
    return step_once(model, params, batch, teacher, ALONE)


def test_a_step_learns_from_the_teachers_whole_distribution(model, params, batch, teacher, alone):
    """What a plain forward pass of both gives the dense losses."""

    def hidden(config, weights):
        return Decoder(config).apply({"params": weights}, batch.tokens, batch.positions, batch.segment_ids)[0]

    vocabulary = model.vocab_size
    beside = Teacher(np.asarray(hidden(TEACHER, teacher.params)), teacher.params["embedding"][:vocabulary])
    student = np.asarray(hidden(model, params))
    expected, _ = dense_sums(student, params["unembedding"], batch, LOSS, beside)
    for name in ("loss", "cross_entropy", "kl", "divergence"):
        assert float(alone[0][name]) == pytest.approx(expected[name] / expected["weight"], rel=1e-4), name
    assert expected["kl"] > 0.1 * expected["weight"]


@pytest.mark.parametrize("name", [name for name in MESHES if name != "alone"])
def test_every_mesh_gives_the_step_of_one_device(name, model, params, batch, teacher, alone):
    metrics, _ = step_once(model, params, batch, teacher, MESHES[name])
    for metric in ("loss", "cross_entropy", "kl", "divergence", "grad_norm"):
        assert float(metrics[metric]) == pytest.approx(float(alone[0][metric]), rel=1e-4), metric


def test_micro_batches_share_the_teacher(model, params, batch, teacher, alone):
    metrics, _ = step_once(model, params, batch, teacher, MeshShape(data=2, fsdp=2, tensor=2), grad_accum_steps=2)
    for metric in ("loss", "divergence", "grad_norm"):
        assert float(metrics[metric]) == pytest.approx(float(alone[0][metric]), rel=1e-4), metric


def test_rows_without_a_piece_are_never_taught(model, params, batch, teacher, tokenizer):
    """The student has 432 rows for 400 pieces; the teacher's own 48 spare rows shout, and are not heard."""
    spare = 432
    wide = replace(model, vocab_size=spare)
    grown = {
        name: np.pad(value, ((0, spare - 400), (0, 0))) if name in ("embedding", "unembedding") else value
        for name, value in params.items()
    }
    loud = {**teacher.params, "embedding": teacher.params["embedding"].copy()}
    loud["embedding"][400:] = 50
    silent = {**teacher.params, "embedding": teacher.params["embedding"].copy()}
    silent["embedding"][400:] = 0
    figures = [
        step_once(wide, grown, batch, replace(teacher, params=weights), shape)[0]
        for weights, shape in ((loud, ALONE), (silent, ALONE), (loud, MESHES["fsdp × tensor"]))
    ]
    for other in figures[1:]:
        assert float(other["divergence"]) == pytest.approx(float(figures[0]["divergence"]), rel=1e-4)


def test_weights_in_eight_bits_are_near_and_four_times_smaller(model, params, batch, teacher, alone):
    for shape in (ALONE, MESHES["fsdp × tensor"]):
        metrics, _ = step_once(model, params, batch, teacher, shape, weights="int8")
        assert float(metrics["kl"]) == pytest.approx(float(alone[0]["kl"]), rel=0.02)
        assert float(metrics["kl"]) != float(alone[0]["kl"])
    _, _, online, _, _ = prepared(model, teacher, ALONE, "int8")
    layers = online.place(teacher)["network"]["layers"]
    for name in SUMMED:
        stored = sum(part.nbytes for part in jax.tree.leaves(layers[name]))
        assert stored < 0.32 * teacher.params["layers"][name].nbytes, name


def test_a_weight_in_eight_bits_is_off_by_half_a_step_at_most():
    weight = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    weight[1, :, 2] = 0
    stored = quantize(weight, (1,))
    error = np.abs(np.asarray(stored.astype(np.float32)) - weight)
    assert (error <= np.abs(weight).max(axis=1, keepdims=True) / 254 + 1e-7).all()


def test_the_teacher_gets_no_gradients_and_reads_the_students_batch(model, params, batch, teacher):
    """Of all that a step gives back nothing has the teacher's shapes, and tokens go in once."""
    mesh, decoder, online, optimizer, abstract = prepared(model, teacher, ALONE)
    step = make_train_step(decoder, optimizer, LOSS, mesh, abstract, teacher=online)
    lowered = step.lower(abstract, put_batch(batch, mesh), online.abstract)
    outputs = {leaf.shape for leaf in jax.tree.leaves(lowered.out_info)}
    assert not {leaf.shape for leaf in jax.tree.leaves(online.abstract) if leaf.ndim > 1} & outputs
    inputs = re.search(r"func.func public @main\((.*?)\) ->", lowered.as_text(), re.DOTALL)
    assert inputs is not None
    assert inputs[1].count("tensor<8x32xi32>") == 4  # tokens, targets, positions, segments
    # Per chunk of 16 tokens only: no logits of the whole batch, of either.
    assert "8x32x400xf32" not in lowered.as_text()


def test_held_out_kl_is_to_the_whole_distribution(model, params, batch, teacher, alone):
    mesh, decoder, online, _, abstract = prepared(model, teacher, MESHES["data × fsdp"])
    evaluate = make_eval_step(decoder, LOSS, mesh, abstract, online)
    placed = jax.device_put(params, jax.tree.map(lambda leaf: leaf.sharding, abstract.params))
    sums = evaluate(placed, put_batch(batch, mesh), online.place(teacher))
    assert float(means(sums)["kl"]) == pytest.approx(float(alone[0]["kl"]), rel=1e-4)


def test_the_loop_learns_from_it_and_moves_alpha_and_temperature(
    model, params, tokenizer, train_set, heldout_set, teacher, tmp_path
):
    """Two phases: the second's schedule counts from its own first step."""
    loss = LossConfig(1.0, 4.0, blend_schedule="linear", final_distill_weight=0.5, final_temperature=2.0)
    config = TrainConfig(
        steps=3, batch_size=8, context=32, loss=loss, teacher=TeacherConfig(True, "int8"), eval_every=3
    )
    config = replace(config, optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=0))
    train_in_phases(
        [PhasePlan(name, config, train_set) for name in ("one", "two")],
        model,
        tokenizer,
        {"heldout": heldout_set},
        folder=tmp_path,
        initial_params=lambda: params,
        provenance={},
        on_step=lambda step, metrics: None,
        open_teacher=lambda: teacher,
    )
    rows = {int(row["step"]): row for row in read_metrics(tmp_path / "metrics.jsonl") if "loss" in row}
    assert [rows[step]["temperature"] for step in (1, 2, 3, 4)] == pytest.approx([4.0, 10 / 3, 8 / 3, 4.0])
    assert [rows[step]["distill_weight"] for step in (1, 3, 4)] == pytest.approx([1.0, 2 / 3, 1.0])
    assert rows[6]["heldout/kl"] < rows[3]["heldout/kl"]


def test_a_teacher_with_another_tokenizer_is_refused(teacher, tokenizer):
    other = train_sentencepiece(["something else entirely\n" * 50], 400)
    with pytest.raises(UserError, match=f"the online teacher's tokenizer is {tokenizer.fingerprint}.*must be one"):
        teacher.require_pieces(other)
    short = replace(teacher, config=replace(TEACHER, vocab_size=300))
    with pytest.raises(UserError, match="has 300 rows of logits for the 400 pieces"):
        short.require_pieces(tokenizer)


def test_a_mesh_that_does_not_divide_the_teacher_is_refused_by_its_parameter(model, teacher):
    odd = replace(teacher, config=replace(TEACHER, num_heads=3, num_kv_heads=3))
    with pytest.raises(UserError, match="the online teacher: mesh axis 'tensor' of 2 devices does not divide the 3"):
        prepared(model, odd, MESHES["fsdp × tensor"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"soft_targets": 4, "teacher": TeacherConfig(online=True)}, "are two teachers of one token"),
        ({"loss": LossConfig(0.5)}, r"distill_weight=0\.5 needs soft targets: set train\.soft_targets, or"),
        ({"soft_targets": -1}, r"train\.soft_targets=-1 is below 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields, said):
    with pytest.raises(UserError, match=said):
        TrainConfig(steps=1, batch_size=1, context=8, **fields)


def test_unknown_weights_are_refused():
    with pytest.raises(UserError, match=r"train\.teacher\.weights='int4' is unknown: choose one of compute, int8"):
        TeacherConfig(weights="int4")
