"""Where an average is what is evaluated, the checkpoint's parameters are it, and training goes on from its own."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from test_loop import CONFIG, PowerCutError, lasting, trainer  # noqa: F401

from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder, open_model
from demiurgic_jax.sharding.mesh import make_mesh
from demiurgic_jax.training.averages import find_average
from demiurgic_jax.training.metrics import read_metrics
from demiurgic_jax.training.optimizer import make_optimizer
from demiurgic_jax.training.state import abstract_state, to_save

OPTIMIZERS = {
    "average": replace(CONFIG.optimizer, ema_decay=0.9),
    "schedule_free": replace(CONFIG.optimizer, name="schedule_free", schedule="constant"),
}


@pytest.mark.parametrize("name", ["average", pytest.param("schedule_free", marks=pytest.mark.slow)])
def test_an_averaged_run_goes_on_to_the_same_bits(trainer, model, tmp_path, name):  # noqa: F811
    config = replace(CONFIG, optimizer=OPTIMIZERS[name])
    trainer(tmp_path / "unbroken", config)
    with pytest.raises(PowerCutError):
        trainer(tmp_path / "stopped", config, stop_after=5)
    assert trainer(tmp_path / "stopped", config) == [4, 5, 6]
    ours, theirs = (open_model(tmp_path / run / "checkpoints") for run in ("stopped", "unbroken"))
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    rows, others = (read_metrics(tmp_path / run / "metrics.jsonl") for run in ("stopped", "unbroken"))
    assert lasting(rows) == lasting(others)

    abstract = abstract_state(model, make_optimizer(config.optimizer, 6), make_mesh(config.mesh))
    with CheckpointFolder(tmp_path / "unbroken" / "checkpoints") as checkpoints:
        params, (trained, opt_state) = checkpoints.restore(6, abstract.params, to_save(abstract, True))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), theirs.params)
    average = find_average(trained, opt_state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), params, average)
    assert np.abs(np.asarray(trained["embedding"]) - theirs.params["embedding"]).max() > 1e-4


@pytest.mark.slow
def test_an_average_may_be_kept_without_being_evaluated(trainer, tmp_path, unbroken_params):  # noqa: F811
    kept = replace(CONFIG, optimizer=replace(CONFIG.optimizer, ema_decay=0.9, evaluate_ema=False))
    trainer(tmp_path, kept)
    params = open_model(tmp_path / "checkpoints").params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), params, unbroken_params)


@pytest.fixture
def unbroken_params(trainer, tmp_path):  # noqa: F811
    trainer(tmp_path / "plain")
    return open_model(tmp_path / "plain" / "checkpoints").params
