"""Phases follow each other in one run; wherever it is stopped, it goes on in that phase to the same end."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from test_loop import CONFIG, PowerCutError, lasting

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.errors import UserError
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.metrics import read_metrics
from demiurgic_jax.training.optimizer import OptimizerConfig
from demiurgic_jax.training.phases import PhasePlan, placed, train_in_phases

CODE = replace(CONFIG, steps=4, soft_targets=0, loss=LossConfig(chunk_tokens=16), keep_checkpoints=1, eval_every=4)
SCHEDULE = OptimizerConfig(learning_rate=1e-3, warmup_steps=1)
ANSWERS = replace(CODE, steps=3, context=24, batch_size=16, optimizer=SCHEDULE)


@pytest.fixture
def in_phases(model, params, tokenizer, train_set, heldout_set):
    def run(folder, *, stop_after=None):
        steps = []

        def on_step(step, metrics):
            steps.append((int(metrics["phase"]), step))
            if step == stop_after:
                raise PowerCutError

        train_in_phases(
            [PhasePlan("code", CODE, train_set), PhasePlan("answers", ANSWERS, heldout_set)],
            model,
            tokenizer,
            {"heldout": heldout_set},
            folder=folder,
            initial_params=lambda: params,
            provenance={},
            on_step=on_step,
        )
        return steps

    return run


def test_a_stop_in_any_phase_resumes_in_it(in_phases, heldout_set, train_set, tmp_path):
    whole = tmp_path / "whole"
    assert in_phases(whole) == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6), (2, 7)]
    its = open_model(whole / "checkpoints")
    assert (its.step, its.card.phase, its.card.phase_start) == (7, "answers", 4)
    assert its.card.data_fingerprint == heldout_set.fingerprint
    ended = open_model(whole / "checkpoints" / "4")  # kept, though only the newest one is asked for
    assert (ended.card.phase, ended.card.data_fingerprint) == ("code", train_set.fingerprint)
    rows = read_metrics(whole / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(8))
    # The second schedule begins anew: half of its peak in its first step, after one of warmup.
    assert [row["learning_rate"] for row in rows[5:7]] == pytest.approx([5e-4, 1e-3])
    assert [row["loss_tokens"] > 0 for row in rows[1:]] == [True] * 7

    for stop_after, again in ((2, (1, 1)), (4, (2, 5)), (5, (2, 5))):
        folder = tmp_path / str(stop_after)
        with pytest.raises(PowerCutError):
            in_phases(folder, stop_after=stop_after)
        assert in_phases(folder)[0] == again
        mine = open_model(folder / "checkpoints")
        assert mine.card == its.card
        jax.tree.map(np.testing.assert_array_equal, mine.params, its.params)
        assert lasting(read_metrics(folder / "metrics.jsonl")) == lasting(rows)
    assert in_phases(whole) == []


def test_phases_need_names_of_their_own():
    assert [(phase.start, phase.ends, phase.number) for phase in placed(["a", "b", "c"], [5, 2, 3])] == [
        (0, (5, 7), 1),
        (5, (5, 7), 2),
        (7, (5, 7), 3),
    ]
    assert placed([""], [5])[0].number == 0
    for names in (["a", "a"], ["a", ""]):
        with pytest.raises(UserError, match="give each a name of its own"):
            placed(names, [1, 1])
