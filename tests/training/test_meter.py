"""What a run says of its speed, its time and its cost is what a clock beside it says."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import named_config
from demiurgic_jax.sharding.chips import CHIPS
from demiurgic_jax.training.attempts import ATTEMPTS, RunHistory, machine_seconds, read_attempts
from demiurgic_jax.training.meter import Meter, progress_line
from demiurgic_jax.training.metrics import MetricLog, MetricsConfig, perplexity, read_metrics

MODEL = named_config("tiny")
PROGRAM = str(Path(__file__).with_name("metering_process.py"))


def meter(config: MetricsConfig = MetricsConfig(), *, steps: int = 4, ago: float = 0.0, **history: float) -> Meter:  # noqa: B008
    """A meter of a run that began `ago` seconds ago."""
    began = time.time() - ago
    known = RunHistory(**{"started": began, "began": began, **history})
    return Meter(config, MODEL, known, rows=4, row_length=128, steps=steps, devices=2)


def measured(each: Meter, steps: int = 4, wait: float = 0.02, work: float = 0.06) -> list[dict[str, float]]:
    """Rows of steps that wait and work for so many seconds."""

    def batches():
        for step in range(steps):
            time.sleep(wait)
            yield step

    rows = []
    for step in each.waited(batches()):
        time.sleep(work)
        rows.append(each.measure(step + 1))
    return rows


def test_speed_and_waiting_are_those_of_the_step():
    for row in measured(meter()):
        assert 0.08 <= row["step_seconds"] < 0.16
        assert row["tokens_per_second"] == pytest.approx(4 * 128 / row["step_seconds"])
        assert 0.1 < row["data_wait_share"] < 0.5


def test_mfu_is_model_flops_over_the_peak_of_all_devices():
    row = measured(meter(MetricsConfig(chip_tflops=0.05)))[-1]
    # The network's weights without norms, by hand: 6 FLOPs each and token; scores and values, causal, three passes.
    weights = 4 * (2 * 128 * 4 * 32 + 2 * 128 * 2 * 32 + 3 * 128 * 384) + 4096 * 128
    flops = 6 * weights * 4 * 128 + 3 * 4 * (4 * 4 * 128 * 64 * 4 * 32)
    assert row["mfu"] == pytest.approx(flops / (2 * 0.05e12 * row["step_seconds"]), rel=2e-3)


def test_the_peak_is_that_of_the_chip_where_it_is_known(monkeypatch):
    assert "mfu" not in measured(meter(), 1)[0]

    class Device:
        device_kind = "TPU v5p"

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    known, named = (measured(each, 1, wait=0)[0] for each in (meter(), meter(MetricsConfig(chip_tflops=459))))
    assert CHIPS["v5p"].peak_flops == 459e12
    assert known["mfu"] * known["step_seconds"] == pytest.approx(named["mfu"] * named["step_seconds"])


def test_eta_and_dollars_follow_the_clock():
    history = {"machine_seconds": 7200.0, "started": time.time() - 10_000}
    rows = measured(meter(MetricsConfig(dollars_per_hour=10.0), steps=8, ago=3600, **history))
    assert "eta_seconds" not in rows[0]
    assert 4 * 0.08 <= rows[3]["eta_seconds"] < 4 * 0.16
    assert rows[3]["dollars"] == pytest.approx(30.0, abs=0.01)
    assert "dollars" not in measured(meter(), 1)[0]
    said = progress_line({**rows[3], "loss": 1.5, "eta_seconds": 7384.2})
    assert said.startswith("loss 1.500  ")
    assert said.endswith("  ETA 2:03:04  $30.00")


def test_goodput_counts_steps_not_compilation_nor_what_stands_between_them():
    each = meter()
    rows = []
    for step in each.waited(range(4)):
        time.sleep(0.4 if step == 0 else 0.05)  # the first step compiles
        rows.append(each.measure(step + 1))
        time.sleep(0.1)  # evaluation, saving
    assert rows[0]["goodput"] == 0
    # Four steps of 0.05 s in 0.4 + 3 · 0.05 + 3 · 0.1 s.
    assert 0.15 < rows[3]["goodput"] < 0.26


def killed_after(step: int, folder: Path, resume_from: int) -> list[dict[str, float]]:
    """Starts a run and SIGKILLs it once it has made `step`; returns its metrics."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    began = time.time()
    process = subprocess.Popen([sys.executable, PROGRAM, str(folder), str(resume_from)], env=environment)
    while time.time() < began + 60:
        rows = read_metrics(folder / "metrics.jsonl")
        if rows and rows[-1]["step"] >= step and rows[-1]["unix_time"] > began:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return read_metrics(folder / "metrics.jsonl")
        time.sleep(0.01)
    process.kill()
    pytest.fail("the process made no steps")


def test_goodput_and_dollars_survive_a_kill(tmp_path):
    first = killed_after(20, tmp_path, -1)
    # Goes on from a checkpoint of step 10: 10 steps and the time until the new start are lost.
    rows = killed_after(20, tmp_path, 10)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    attempts = read_attempts(tmp_path / ATTEMPTS)
    assert [attempt.from_step for attempt in attempts] == [0, 10]
    assert attempts[1].previous_ended == first[-1]["unix_time"]
    last = rows[-1]
    wall = last["unix_time"] - attempts[0].began
    assert last["goodput"] == pytest.approx(0.05 * len(rows) / wall, rel=0.35)
    worked = (first[-1]["unix_time"] - attempts[0].began) + (last["unix_time"] - attempts[1].began)
    assert last["dollars"] == pytest.approx(worked, rel=1e-3)
    assert machine_seconds(attempts, last["unix_time"]) == pytest.approx(worked, rel=1e-3)
    assert worked < wall  # between the attempts no machine was paid for


def test_an_attempt_that_made_no_step_is_remembered(tmp_path):
    MetricLog(tmp_path, None, began=100.0).close()
    with (tmp_path / ATTEMPTS).open("a") as file:
        file.write('{"began": 1')  # cut off by a kill
    log = MetricLog(tmp_path, None, began=400.0)
    assert log.history == RunHistory(started=100.0, began=400.0)
    assert [attempt.began for attempt in read_attempts(tmp_path / ATTEMPTS)] == [100.0, 400.0]
    assert all(json.loads(line)["devices"] == 8 for line in (tmp_path / ATTEMPTS).read_text().splitlines()[::2])


def test_memory_of_the_process_is_told():
    assert 50e6 < measured(meter(), 1)[0]["host_memory_peak_bytes"] < 200e9


def test_perplexity_of_a_hopeless_model_is_still_a_number():
    assert perplexity(2.0) == pytest.approx(7.389056)
    assert perplexity(1e6) < float("inf")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tensorboard": "yes"}, "train.metrics.tensorboard='yes' is unknown: choose one of auto, on, off"),
        ({"dollars_per_hour": -1.0}, "train.metrics.dollars_per_hour=-1.0 is below 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, said):
    with pytest.raises(UserError) as refusal:
        replace(MetricsConfig(), **fields)
    assert said in str(refusal.value)
