"""A spike stops the run, or its data is left out for good; either way it is said which documents it was made of."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from test_loop import CONFIG, PowerCutError, lasting, trainer  # noqa: F401 (a fixture)

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.errors import UserError
from demiurgic_jax.training import loop
from demiurgic_jax.training.metrics import read_metrics
from demiurgic_jax.training.spikes import DivergedError, SkippedData, SpikeConfig, merged, require_healthy

SKIP = replace(CONFIG, steps=8, checkpoint_every=2, eval_every=8, spike=SpikeConfig(act="skip", rollbacks=2))


@pytest.fixture
def poisoned(monkeypatch):
    """poisoned(steps) makes these batches of the data such that the loss is no number."""

    class Poisoned(Loader):
        bad = ()

        def batch(self, step, *share):
            batch = super().batch(step, *share)
            return batch._replace(loss_weights=batch.loss_weights * np.nan) if step in self.bad else batch

    monkeypatch.setattr(loop, "Loader", Poisoned)

    def poison(*steps):
        Poisoned.bad = steps

    return poison


def test_the_data_of_a_spike_is_left_out_and_named(trainer, poisoned, train_set, tmp_path):  # noqa: F811
    poisoned(4)  # the fifth step's
    warned = []
    steps = trainer(tmp_path / "run", SKIP, warn=warned.append)
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
    (said,) = warned
    loader = Loader(train_set, batch_size=8, row_length=32, seed=3)
    keys = [key for row in loader.rows_in(4) for key in row]
    assert said.startswith("loss is nan at step 5: back to step 4; its data, batches 4 to 4, is skipped from now on")
    assert keys[0] in said
    (line,) = map(json.loads, (tmp_path / "run/spikes/5.jsonl").read_text().splitlines())
    assert line == {"batch": 4, "documents": loader.rows_in(4)}
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(9))
    assert open_model(tmp_path / "run/checkpoints").card.skipped == ((4, 4),)


def test_a_kill_after_the_rollback_resumes_in_the_same_data(trainer, poisoned, tmp_path):  # noqa: F811
    poisoned(3, 7)  # batch 7 belongs to step 7, since 2 and 3 are left out by then
    trainer(tmp_path / "unbroken", SKIP)
    for stop_after in (4, 5):  # before the first checkpoint behind the rollback, and after it
        folder = tmp_path / str(stop_after)
        with pytest.raises(PowerCutError):
            trainer(folder, SKIP, stop_after=stop_after)
        trainer(folder, SKIP)
        mine, its = (open_model(each / "checkpoints") for each in (folder, tmp_path / "unbroken"))
        assert mine.card == its.card
        assert mine.card.skipped == ((2, 3), (6, 7))
        jax.tree.map(np.testing.assert_array_equal, mine.params, its.params)
        assert lasting(read_metrics(folder / "metrics.jsonl")) == lasting(
            read_metrics(tmp_path / "unbroken" / "metrics.jsonl")
        )


def test_a_folder_that_lost_its_list_of_skips_has_them_in_the_checkpoint(trainer, poisoned, tmp_path):  # noqa: F811
    poisoned(1)
    for name in ("a", "b"):
        with pytest.raises(PowerCutError):
            trainer(tmp_path / name, SKIP, stop_after=5)
    (tmp_path / "a/skipped.json").unlink()
    for name in ("a", "b"):
        trainer(tmp_path / name, SKIP)
    mine, its = (open_model(tmp_path / name / "checkpoints") for name in ("a", "b"))
    assert mine.card.skipped == its.card.skipped == ((0, 1),)
    jax.tree.map(np.testing.assert_array_equal, mine.params, its.params)


def test_a_run_that_spikes_again_and_again_stops(trainer, poisoned, tmp_path):  # noqa: F811
    poisoned(*range(2, 100))
    warned = []
    with pytest.raises(
        DivergedError, match=r"loss is nan at step 3, after 2 times back to step 2 and other data: lower"
    ):
        trainer(tmp_path, SKIP, warn=warned.append)
    assert len(warned) == 2
    assert open_model(tmp_path / "checkpoints").step == 2


def test_a_poisoned_state_is_never_saved(trainer, poisoned, tmp_path):  # noqa: F811
    poisoned(3)  # of the very step that is to be saved
    with pytest.raises(
        DivergedError, match=r"^loss is nan at step 4: lower .*leave its data out.*Documents of that"
    ) as e:
        trainer(tmp_path, replace(SKIP, spike=SpikeConfig()))
    assert str(tmp_path / "spikes/4.jsonl") in str(e.value)
    assert open_model(tmp_path / "checkpoints").step == 2


def test_a_loss_far_above_the_last_ones_is_a_spike():
    config = SpikeConfig(sigmas=6.0, window=4)
    recent = [2.0, 2.1, 1.9, 2.0]
    require_healthy(9, {"loss": 2.3, "grad_norm": 1e9}, recent, config)
    require_healthy(9, {"loss": 9.0}, recent[:3], config)  # too few to tell
    require_healthy(9, {"loss": 9.0}, recent, replace(config, sigmas=0.0))
    with pytest.raises(DivergedError, match=r"loss is 2\.5 at step 9, a spike: 2 ± 0\.07.* over the 4 steps before"):
        require_healthy(9, {"loss": 2.5}, recent, config)
    with pytest.raises(DivergedError, match="grad_norm is inf at step 9"):
        require_healthy(9, {"loss": 2.0, "grad_norm": float("inf")}, recent, config)


def test_skipped_ranges_leave_every_other_batch_in_its_order(tmp_path):
    assert merged([(4, 5), (0, 1), (6, 6), (1, 2), (9, 9)]) == ((0, 2), (4, 6), (9, 9))
    data = SkippedData(tmp_path, "")
    data.include([(4, 5), (0, 1), (9, 9)])
    assert [data.data_step(step) for step in range(7)] == [2, 3, 6, 7, 8, 10, 11]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"act": "ignore"}, "train.spike.act='ignore' is unknown: choose one of stop, skip"),
        ({"window": 1}, "window of"),
    ],
)
def test_settings_that_mean_nothing_are_refused(fields, said):
    with pytest.raises(UserError, match=said):
        SpikeConfig(**fields)
