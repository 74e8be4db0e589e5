"""A run is the same run, stopped or not; and it stops by itself when it must."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.loop import train
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.metrics import MEASURED, read_metrics
from demiurgic_jax.training.optimizer import OptimizerConfig
from demiurgic_jax.training.spikes import DivergedError
from demiurgic_jax.training.watching import Watch

CONFIG = TrainConfig(
    steps=6,
    batch_size=8,
    context=32,
    seed=3,
    soft_targets=4,
    remat="none",
    checkpoint_every=3,
    eval_every=2,
    mesh=MeshShape(data=2, fsdp=2, tensor=2),
    optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
    loss=LossConfig(distill_weight=0.5, z_loss=1e-4, chunk_tokens=16),
)


class PowerCutError(Exception):
    pass


@pytest.fixture
def trainer(model, params, tokenizer, train_set, heldout_set):
    """train() with everything but the folder and the config filled in; records the steps that it made."""

    def run(folder, config=CONFIG, *, shards=train_set, initial_params=lambda: params, stop_after=None, **more):
        steps = []

        def on_step(step, metrics):
            steps.append(step)
            if step == stop_after:
                raise PowerCutError

        train(
            config,
            model,
            tokenizer,
            shards,
            {"heldout": heldout_set},
            folder=folder,
            initial_params=initial_params,
            provenance={"teacher": "tests"},
            on_step=on_step,
            **more,
        )
        return steps

    return run


def lasting(rows):
    """Metrics without the clock's."""
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


@pytest.fixture(scope="module")
def unbroken_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("unbroken")


@pytest.fixture
def unbroken(trainer, unbroken_folder):
    """A run from end to end, made once."""
    if not (unbroken_folder / "metrics.jsonl").exists():
        assert trainer(unbroken_folder) == [1, 2, 3, 4, 5, 6]
    return unbroken_folder


def test_a_stopped_run_goes_on_to_the_same_bits(trainer, unbroken, tmp_path):
    with pytest.raises(PowerCutError):
        trainer(tmp_path, stop_after=5)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["step"] == 5

    def not_again():
        pytest.fail("a run that has a checkpoint does not start anew")

    # The checkpoint of step 3 is the newest: 4 and 5 are made again.
    assert trainer(tmp_path, initial_params=not_again) == [4, 5, 6]
    ours, theirs = open_model(tmp_path / "checkpoints"), open_model(unbroken / "checkpoints")
    assert ours.step == theirs.step == 6
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    assert lasting(read_metrics(tmp_path / "metrics.jsonl")) == lasting(read_metrics(unbroken / "metrics.jsonl"))


def test_what_watches_sees_the_parameters_every_so_many_steps_and_its_figures_are_kept(trainer, unbroken, tmp_path):
    seen = {}

    def look(step, params):
        seen[step] = float(sum(abs(leaf).sum() for leaf in jax.tree.leaves(params)))
        return {"pass_at_1/mini": step / 100}

    trainer(tmp_path, watch=Watch(2, look))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [*seen] == [step for step in range(2, CONFIG.steps + 1, 2)]
    assert len({*seen.values()}) == len(seen)
    assert {row["step"]: row["pass_at_1/mini"] for row in rows if "pass_at_1/mini" in row} == {s: s / 100 for s in seen}
    # It only looks: what is learnt is the same.
    last = [lasting(read_metrics(folder / "metrics.jsonl"))[-1] for folder in (tmp_path, unbroken)]
    assert last[0]["loss"] == last[1]["loss"]


def test_a_finished_run_is_left_as_it_is(trainer, unbroken):
    before = (unbroken / "metrics.jsonl").read_bytes()
    assert trainer(unbroken) == []
    assert (unbroken / "metrics.jsonl").read_bytes() == before


def test_metrics_tell_every_step_and_the_held_out_ones(unbroken):
    rows = read_metrics(unbroken / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "heldout/cross_entropy" in row] == [0, 2, 4, 6]
    assert rows[-1]["heldout/kl"] < rows[0]["heldout/kl"]
    assert rows[-1]["heldout/cross_entropy"] < rows[0]["heldout/cross_entropy"]
    assert len({row["heldout/loss_tokens"] for row in rows if "heldout/loss_tokens" in row}) == 1
    for name in (
        "loss",
        "cross_entropy",
        "kl",
        "z_loss",
        "accuracy",
        "grad_norm",
        "learning_rate",
        "perplexity",
        "tokens_per_second",
        "data_wait_share",
        "goodput",
        "host_memory_peak_bytes",
    ):
        assert all(np.isfinite(row[name]) for row in rows[1:])


def test_a_checkpoint_says_what_it_is_made_of(unbroken, model, train_set, tokenizer):
    opened = open_model(unbroken / "checkpoints")
    assert opened.config == model
    assert opened.card.data_fingerprint == train_set.fingerprint
    assert opened.card.provenance == {"teacher": "tests"}
    assert opened.tokenizer.fingerprint == tokenizer.fingerprint


def test_a_line_cut_off_by_a_kill_is_written_again(trainer, unbroken, tmp_path):
    with pytest.raises(PowerCutError):
        trainer(tmp_path, stop_after=4)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    trainer(tmp_path)
    assert lasting(read_metrics(tmp_path / "metrics.jsonl")) == lasting(read_metrics(unbroken / "metrics.jsonl"))


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_ends_in_the_same_bits(trainer, unbroken, tmp_path):
    config = replace(CONFIG, checkpoint_every=2)
    with pytest.raises(PowerCutError):
        trainer(tmp_path, config, stop_after=5)
    largest = max((tmp_path / "checkpoints/4/params").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 8
    largest.write_bytes(content)
    warned = []
    assert trainer(tmp_path, config, warn=warned.append) == [3, 4, 5, 6]
    (said,) = warned
    assert str(tmp_path / "checkpoints/4") in said
    assert "is not what was saved" in said
    ours, theirs = open_model(tmp_path / "checkpoints"), open_model(unbroken / "checkpoints")
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    (damage,) = (row for row in rows if "damaged_checkpoint" in row)
    assert (damage["step"], damage["damaged_checkpoint"]) == (2, 4)
    assert lasting([row for row in rows if "loss" in row]) == lasting(read_metrics(unbroken / "metrics.jsonl")[1:])


def test_best_checkpoints_need_figures_of_every_checkpoint(trainer, tmp_path):
    with pytest.raises(UserError, match=r"keep_best=1 needs held-out figures of every checkpoint"):
        replace(CONFIG, keep_best=1)
    trainer(tmp_path, replace(CONFIG, keep_best=1, keep_checkpoints=1, checkpoint_every=2))
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl")[1:] if "heldout/cross_entropy" in row]
    best = min(rows, key=lambda row: row["heldout/cross_entropy"])["step"]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {str(best), "6"}


def test_a_diverging_run_stops_and_names_step_and_metric(trainer, tmp_path):
    config = replace(CONFIG, optimizer=OptimizerConfig(learning_rate=1e12, warmup_steps=1))
    with pytest.raises(DivergedError, match=r"^\w+ is (nan|inf) at step 2: lower train\.optimizer\.learning_rate"):
        trainer(tmp_path, config)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]


def test_other_shards_in_the_same_folder_are_refused(trainer, tokenizer, train_set, tmp_path):
    trainer(tmp_path / "run", replace(CONFIG, steps=3))
    documents = [train_set.read(index) for index in range(len(train_set) - 1)]
    other = write_shards(tmp_path / "other", documents, tokenizer=tokenizer, num_shards=1, provenance={})
    with pytest.raises(UserError) as refusal:
        trainer(tmp_path / "run", shards=other)
    for named in (train_set.fingerprint[:12], other.fingerprint[:12], str(tmp_path / "run")):
        assert named in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batch_size": 6}, "train.batch_size=6 does not split"),
        ({"steps": 0}, "train.steps=0 must be at least 1"),
        ({"compute_dtype": "float8"}, "train.compute_dtype='float8' is unknown: choose one of float32, bfloat16"),
        ({"soft_targets": 0}, "train.loss.distill_weight=0.5 needs soft targets"),
        ({"context": 4096}, "fewer than one batch of 8"),
        ({"mesh": MeshShape(data=3)}, "does not cover the 8 devices"),
    ],
)
def test_settings_that_cannot_run_are_refused_before_anything_is_written(trainer, tmp_path, fields, said):
    with pytest.raises(UserError) as refusal:
        trainer(tmp_path, replace(CONFIG, **fields))
    assert said in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_smaller_than_the_vocabulary_is_refused(model, params, tokenizer, train_set, heldout_set, tmp_path):
    with pytest.raises(UserError, match=r"tokenizer has 400 ids, model\.vocab_size=399"):
        train(
            CONFIG,
            replace(model, vocab_size=399),
            tokenizer,
            train_set,
            {"heldout": heldout_set},
            folder=tmp_path,
            initial_params=lambda: params,
            provenance={},
            on_step=lambda step, metrics: None,
        )
