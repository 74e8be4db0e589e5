"""Where TensorFlow is installed, a run's metrics are TensorBoard event files too."""

import json

import pytest

from demiurgic_jax.training.metrics import MetricLog


def test_metrics_can_be_read_back_from_the_event_files(tmp_path):
    for package in ("tensorflow", "tensorboard"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra [tfds])")
    from tensorflow.compat.v1.train import summary_iterator
    from tensorflow.python.framework.tensor_util import MakeNdarray

    log = MetricLog(tmp_path, None)
    log.write(1, {"loss": 2.5})
    log.write(2, {"loss": 1.25})
    log.close()
    (events,) = (tmp_path / "tensorboard").glob("events.*")
    read = {
        event.step: float(MakeNdarray(value.tensor))
        for event in summary_iterator(str(events))
        for value in event.summary.value
        if value.tag == "loss"
    }
    assert read == {1: 2.5, 2: 1.25}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.25}]
