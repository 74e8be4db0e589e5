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
from demiurgic_jax.training.attempts import ATTEMPTS, RunHistory, machine_seconds, read_attempts
from demiurgic_jax.training.meter import Meter, progress_line
from demiurgic_jax.training.metrics import MetricLog, MetricsConfig, perplexity, read_metrics

MODEL = named_config("tiny")
PROGRAM = str(Path(__file__).with_name("metering_process.py"))


class Clock:
    """What the meter takes for the time; `pass_seconds` lets it go by."""

    def __init__(self) -> None:
        self.now = 1.8e9

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        return self.now

    perf_counter = time


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("demiurgic_jax.training.meter.time", clock)
    return clock


def meter(clock: Clock, *, steps: int = 4, ago: float = 0.0, history=None, **config: float) -> Meter:
    """A meter of an attempt that began `ago` seconds ago."""
    began = clock.now - ago
    known = RunHistory(**{"started": began, "began": began} | (history or {}))
    return Meter(MetricsConfig(**config), MODEL, known, rows=4, row_length=128, steps=steps, devices=2)


def measured(
    clock: Clock,
    each: Meter,
    *,
    steps: int = 4,
    wait: float = 1,
    work: float = 4,
    compiling: float = 0,
    saving: float = 0,
) -> list[dict[str, float]]:
    """Rows of four steps that take so many seconds."""

    def batches():
        for step in range(4):
            clock.pass_seconds(wait)
            yield step

    rows = []
    for step in each.waited(batches()):
        clock.pass_seconds(work if step else work + compiling)
        rows.append(each.measure(step + 1))
        clock.pass_seconds(saving)
        each.resume()
    return rows


def test_speed_and_waiting_are_those_of_the_step(clock):
    for row in measured(clock, meter(clock), wait=1, work=4, saving=100):
        assert row["step_seconds"] == pytest.approx(5)
        assert row["tokens_per_second"] == pytest.approx(4 * 128 / 5)
        assert row["data_wait_share"] == pytest.approx(0.2)


def test_a_step_that_is_measured_late_lasts_until_then(clock):
    """As where its metrics are read while the device makes the next one."""
    each, rows = meter(clock), []
    for step in each.waited(range(5)):
        clock.pass_seconds(3)
        if step > 0:
            rows.append(each.measure(step))
    assert [row["step_seconds"] for row in rows] == pytest.approx([6, 3, 3, 3])


def test_mfu_is_model_flops_over_the_peak_of_all_devices(clock):
    row = measured(clock, meter(clock, chip_tflops=0.05))[-1]
    # The network's weights without norms, by hand: 6 FLOPs each and token; scores and values, causal, three passes.
    weights = 4 * (2 * 128 * 4 * 32 + 2 * 128 * 2 * 32 + 3 * 128 * 384) + 4096 * 128
    flops = 6 * weights * 4 * 128 + 3 * 4 * (4 * 4 * 128 * 64 * 4 * 32)
    assert row["mfu"] == pytest.approx(flops / (2 * 0.05e12 * 5), rel=2e-3)


def test_the_peak_is_that_of_the_chip_where_it_is_known(clock, monkeypatch):
    assert "mfu" not in measured(clock, meter(clock))[0]

    class Device:
        device_kind = "TPU v5p"

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    known, named = (measured(clock, each)[-1]["mfu"] for each in (meter(clock), meter(clock, chip_tflops=459)))
    assert known == pytest.approx(named)


def test_eta_and_dollars_follow_the_clock(clock):
    history = {"machine_seconds": 7200.0, "started": clock.now - 20_000}
    rows = measured(clock, meter(clock, steps=10, ago=3580, history=history, dollars_per_hour=10.0), saving=1)
    assert "eta_seconds" not in rows[0]
    # Three steps and what stood between them took 18 s; six are left.
    assert rows[3]["eta_seconds"] == pytest.approx(6 * 18 / 3)
    assert rows[3]["dollars"] == pytest.approx(10 * (7200 + 3580 + 4 * 5 + 3) / 3600)
    assert "dollars" not in measured(clock, meter(clock))[0]
    said = progress_line({**rows[3], "loss": 1.5, "eta_seconds": 7384.2})
    assert said == "loss 1.500  102 tokens/s  ETA 2:03:04  $30.01"


def test_goodput_counts_steps_not_compilation_nor_what_stands_between_them(clock):
    rows = measured(clock, meter(clock), wait=1, work=4, compiling=60, saving=10)
    # The first step counts once its length without compilation is known: the second's.
    assert [row["goodput"] for row in rows] == pytest.approx([0, 8 / 80, 12 / 95, 16 / 110])


def test_goodput_goes_on_from_the_attempts_before(clock):
    history = {"started": clock.now - 1000, "useful_seconds": 500.0}
    rows = measured(clock, meter(clock, history=history), wait=0, work=5)
    assert rows[-1]["goodput"] == pytest.approx(520 / 1020)


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
    # Steps sleep for 0.05 s; what a busy machine adds to that counts as well.
    steps = sum(row["step_seconds"] for row in rows)
    assert 0.05 * (len(rows) - 1) / wall < last["goodput"] <= 1.1 * steps / wall
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


def test_memory_of_the_process_is_told(clock):
    assert 50e6 < measured(clock, meter(clock))[0]["host_memory_peak_bytes"] < 200e9


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
