"""Where TensorFlow is installed, a run's metrics are TensorBoard event files too; where it is not, a run works."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.loop import train
from demiurgic_jax.training.metrics import MetricsConfig, read_metrics
from demiurgic_jax.training.optimizer import OptimizerConfig

ROOT = Path(__file__).parents[2]


def test_tensorboard_shows_the_run(model, params, tokenizer, train_set, heldout_set, tmp_path):
    for package in ("tensorflow", "tensorboard"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra [tfds])")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorflow.python.framework.tensor_util import MakeNdarray

    config = TrainConfig(
        steps=3,
        batch_size=8,
        context=32,
        soft_targets=4,
        mesh=MeshShape(data=8),
        optimizer=OptimizerConfig(warmup_steps=1),
    )
    train(
        config,
        model,
        tokenizer,
        train_set,
        {"heldout": heldout_set},
        folder=tmp_path,
        initial_params=lambda: params,
        provenance={},
        on_step=lambda step, metrics: None,
    )
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    for name in ("loss", "grad_norm", "learning_rate", "goodput", "heldout/cross_entropy", "heldout/task/complete/kl"):
        shown = {event.step: float(MakeNdarray(event.tensor_proto)) for event in events.Tensors(name)}
        assert shown == pytest.approx({row["step"]: row[name] for row in rows if name in row}, rel=1e-6)
    (overview,) = events.Tensors("parameters")
    assert "layers/w_down" in MakeNdarray(overview.tensor_proto).item().decode()


def test_asking_for_what_is_not_installed_is_refused_with_the_mend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert MetricsConfig().tensorboard == "auto"
    with pytest.raises(UserError, match=r"train\.metrics\.tensorboard=on needs TensorFlow .*: pip install"):
        MetricsConfig(tensorboard="on")


def test_training_and_sampling_load_without_tensorflow():
    """The rooms are loaded where no import of TensorFlow or TensorBoard can succeed."""
    rooms = ("training", "sampling", "checkpoints", "data", "sharding", "model")
    files = [file for room in rooms for file in sorted((ROOT / "demiurgic_jax" / room).rglob("*.py"))]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if file.name != "__init__.py"]
    program = (
        "import importlib, sys\n"
        "sys.modules.update(tensorflow=None, tensorboard=None, tensorflow_datasets=None)\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
