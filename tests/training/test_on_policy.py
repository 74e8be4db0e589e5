"""The student's own samples as batches: which steps, from which prompts, learnt where, and the same after a kill."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from on_policy_process import CONFIG, run

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.errors import UserError
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.metrics import read_metrics
from demiurgic_jax.training.on_policy import OnPolicy, OnPolicyConfig, prompts_of
from demiurgic_jax.training.online_teacher import TeacherConfig

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
PROMPTS = OnPolicyConfig(fraction=0.5, prompt_tokens=8, max_tokens=4)


@pytest.fixture(scope="module")
def batch(train_set):
    return Loader(train_set, batch_size=8, row_length=48, seed=0).batch(0)


def continued(params, prompts, seed):
    """Three tokens that tell the prompt that they belong to."""
    return [[int(prompt[-1]), len(prompt), seed % 400] for prompt in prompts]


def test_which_steps_are_on_policy_follows_from_seed_and_step_alone():
    due = {}
    for seed in (0, 1):
        for fraction in (0.25, 0.5):
            policy = OnPolicy(replace(PROMPTS, fraction=fraction), continued, seed, 0)
            due[seed, fraction] = [policy.is_due(step) for step in range(2000)]
            assert abs(np.mean(due[seed, fraction]) - fraction) < 0.04
            assert policy.share(2000) == pytest.approx(np.mean(due[seed, fraction]))
    assert due[0, 0.5] != due[1, 0.5]
    # A larger share keeps the steps of a smaller one.
    assert all(more or not less for less, more in zip(due[0, 0.25], due[0, 0.5], strict=True))
    later = OnPolicy(PROMPTS, continued, 0, 1500)
    assert [later.is_due(step) for step in range(1500, 2000)] == due[0, 0.5][1500:]
    assert later.share(1600) == pytest.approx(np.mean(due[0, 0.5][1500:1600]))
    assert not any(OnPolicy(replace(PROMPTS, fraction=0.0), continued, 0, 0).is_due(step) for step in range(100))


def test_prompts_are_what_the_mask_leaves_out_or_the_first_half(batch):
    seen = {"masked": 0, "code": 0}
    for row in range(8):
        prompts = [tuple(prompt) for prompt in prompts_of(batch, row, PROMPTS)]
        assert sum(len(prompt) + PROMPTS.max_tokens for prompt in prompts) <= 48
        for segment in range(1, batch.segment_ids[row].max() + 1):
            at = batch.segment_ids[row] == segment
            tokens, weights = batch.tokens[row][at], batch.loss_weights[row][at]
            masked = not weights[0]
            # documents of tests/training/conftest.py leave the first four tokens out
            expected = tuple(tokens[:4] if masked else tokens[: min(8, len(tokens) // 2)])
            if expected in prompts:
                seen["masked" if masked else "code"] += 1
        assert prompts
    assert seen["masked"] > 3
    assert seen["code"] > 3


def test_only_sampled_tokens_are_learnt(batch):
    samples = OnPolicy(PROMPTS, continued, 5, 0).samples(None, 7, batch)
    own, answers = samples.batch, 0
    assert own.teacher_ids is None
    for row in range(8):
        prompts = prompts_of(batch, row, PROMPTS)
        answers += len(prompts)
        for segment, prompt in enumerate(prompts, start=1):
            at = own.segment_ids[row] == segment
            tokens = own.tokens[row][at].tolist()
            assert tokens[: len(prompt)] == prompt
            assert tokens[len(prompt) : len(prompt) + 2] == [prompt[-1], len(prompt)]
            # The position before each sampled token has its weight, and the last token nothing to predict.
            weights = [0.0] * (len(prompt) - 1) + [1.0] * 3 + [0.0]
            assert own.loss_weights[row][at].tolist() == weights
            assert own.positions[row][at].tolist() == list(range(len(tokens)))
        assert not own.loss_weights[row][own.segment_ids[row] == 0].any()
    assert samples.metrics == {
        "on_policy_samples": float(answers),
        "sampled_length": 3.0,
        "sampled_to_the_end": 1.0,
    }
    assert own.loss_weights.sum() == 3 * answers


def test_a_batch_without_prompts_stays_as_it_is(batch):
    nothing = batch._replace(loss_weights=np.zeros_like(batch.loss_weights))
    assert OnPolicy(PROMPTS, continued, 0, 0).samples(None, 0, nothing) is None


@pytest.fixture(scope="module")
def unbroken(given, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert start(given, folder).wait() == 0
    return folder


def start(given: Path, folder: Path, mesh: str = '{"data": 1, "fsdp": 1}', devices: int = 1) -> subprocess.Popen:
    program = [sys.executable, str(HERE / "on_policy_process.py"), str(given), str(folder), str(devices), mesh, "8"]
    paths = f"{ROOT}:{HERE}"
    return subprocess.Popen(program, env=os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"})


def test_the_metrics_tell_its_share_and_its_samples(unbroken):
    rows = [row for row in read_metrics(unbroken / "metrics.jsonl") if "loss" in row]
    policy = OnPolicy(CONFIG.on_policy, continued, CONFIG.seed, 0)
    due = [policy.is_due(step) for step in range(8)]
    assert 2 <= sum(due) <= 6
    assert [bool(row["on_policy"]) for row in rows] == due
    assert rows[-1]["on_policy_share"] == pytest.approx(np.mean(due))
    for row in rows:
        assert ("sampled_length" in row) == bool(row["on_policy"])
        if row["on_policy"]:
            assert 1 <= row["sampled_length"] <= 8
            # nothing is imitated there: the loss is the teacher's alone
            assert row["loss"] == pytest.approx(row["divergence"], rel=1e-5)


@pytest.mark.slow
def test_a_kill_and_a_second_start_give_the_same_bits(given, unbroken, tmp_path):
    folder = tmp_path / "broken"
    process = start(given, folder)
    deadline = time.monotonic() + 600
    while newest_step(folder) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert newest_step(folder) < 8
    assert start(given, folder).wait() == 0
    mine, its = (open_model(each / "checkpoints") for each in (folder, unbroken))
    assert mine.step == its.step == 8
    assert mine.card == its.card
    jax.tree.map(np.testing.assert_array_equal, mine.params, its.params)


def test_without_own_samples_other_parameters_come_out(given, unbroken, tmp_path):
    run(given, tmp_path, replace(CONFIG, on_policy=OnPolicyConfig()))
    mine, its = (open_model(each / "checkpoints").params["embedding"] for each in (tmp_path, unbroken))
    assert np.abs(np.asarray(mine) - np.asarray(its)).max() > 1e-4


def newest_step(folder: Path) -> int:
    rows = read_metrics(folder / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"fraction": 1.5}, r"train\.on_policy\.fraction=1\.5 is outside 0\.\.1"),
        ({"max_tokens": 0}, r"train\.on_policy\.max_tokens=0 must be at least 1"),
        ({"temperature": -1.0}, r"train\.on_policy\.temperature=-1\.0 is outside"),
        ({"divergence": "kl"}, r"divergence='kl' is unknown: choose one of forward_kl"),
    ],
)
def test_bad_fields_are_refused(fields, said):
    with pytest.raises(UserError, match=said):
        OnPolicyConfig(**fields)


def test_a_run_that_cannot_judge_or_hold_samples_is_refused(given, tmp_path):
    own = OnPolicyConfig(fraction=0.5)
    with pytest.raises(UserError, match=r"train\.teacher\.online=True.*train\.on_policy\.top_logprobs=20"):
        TrainConfig(steps=1, batch_size=1, context=512, on_policy=own)
    with pytest.raises(UserError, match=r"max_tokens=128 leaves no room for a prompt in train\.context=64"):
        TrainConfig(steps=1, batch_size=1, context=64, on_policy=own, teacher=TeacherConfig(True), loss=LossConfig(1.0))
