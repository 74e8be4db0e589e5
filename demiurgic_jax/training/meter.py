"""What a step took: speed, utilisation, waiting, goodput, memory; what the run still takes and has cost."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TypeVar

import jax

from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.flops import training_flops
from demiurgic_jax.sharding.chips import chip_of
from demiurgic_jax.training.attempts import RunHistory
from demiurgic_jax.training.metrics import MetricsConfig

T = TypeVar("T")


class Meter:
    """Measures one attempt of a run of `steps` steps, each on `rows` rows of `row_length` tokens.

    A step lasts from the measurement of the one before, or from `resume`, to its own: so it is right as well where
    a step's metrics are read while the next one runs.
    """

    def __init__(
        self,
        config: MetricsConfig,
        model: ModelConfig,
        history: RunHistory,
        *,
        rows: int,
        row_length: int,
        steps: int,
        devices: int,
    ) -> None:
        self._history, self._steps = history, steps
        self._tokens = rows * row_length
        self._dollars_per_hour = config.dollars_per_hour
        chip = chip_of(jax.devices()[0].device_kind)
        peak = config.chip_tflops * 1e12 or (chip.peak_flops if chip else 0.0)
        # Seconds that the step's FLOPs take at the peak of all devices; 0 where no peak is known.
        self._ideal_seconds = training_flops(model, rows, row_length) / (peak * devices) if peak else 0.0
        self._useful = history.useful_seconds
        self._since, self._wait = time.perf_counter(), 0.0
        self._compiled: tuple[int, float] | None = None

    def waited(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; how long the host waits for them is measured."""
        asked = time.perf_counter()
        for batch in batches:
            self._wait += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()

    def resume(self) -> None:
        """What was done since the last measurement (evaluation, saving) is no part of a step."""
        self._since, self._wait = time.perf_counter(), 0.0

    def measure(self, done: int) -> dict[str, float]:
        """Metrics of the step that was just finished, the `done`-th of the run.

        `goodput` is the share of the time since the run's first start, pauses between its attempts included, in which
        steps were made that count: not compilation, nor waiting for data, evaluation, saving, nor steps that a kill
        lost. `dollars` are for the time in which machines were at work. `mfu` is model FLOPs (attention's causal half,
        no recomputation) over the peak of all devices; left out where no peak is known.
        """
        now, unix_time = time.perf_counter(), time.time()
        seconds, wait = now - self._since, self._wait
        self._since, self._wait = now, 0.0
        self._count(done, now, seconds - wait)
        metrics = {
            "tokens_per_second": self._tokens / seconds,
            "step_seconds": seconds,
            "data_wait_share": wait / seconds,
            "goodput": min(1.0, self._useful / max(unix_time - self._history.started, 1e-9)),
            **memory(),
            "unix_time": unix_time,
        }
        if self._ideal_seconds:
            metrics["mfu"] = self._ideal_seconds / seconds
        first, since = self._compiled or (done, now)
        if done > first:
            metrics["eta_seconds"] = (now - since) / (done - first) * (self._steps - done)
        if self._dollars_per_hour:
            worked = self._history.machine_seconds + unix_time - self._history.began
            metrics["dollars"] = worked / 3600 * self._dollars_per_hour
        return metrics

    def _count(self, done: int, now: float, useful: float) -> None:
        """The first step of an attempt compiles: it counts for as much as the second takes, once that is known."""
        if self._compiled is None:
            self._compiled = (done, now)
        else:
            self._useful += useful * (2 if done == self._compiled[0] + 1 else 1)


def memory() -> dict[str, float]:
    """Peaks in bytes: of the fullest device of this process, where devices tell it, and of the process itself."""
    told = [stats for device in jax.local_devices() if (stats := device.memory_stats())]
    peak = max((stats.get("peak_bytes_in_use", 0) for stats in told), default=0)
    # In bytes on macOS, in KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return ({"device_memory_peak_bytes": peak} if peak else {}) | {"host_memory_peak_bytes": resident}


def progress_line(metrics: Mapping[str, float]) -> str:
    """What a person wants to see of a step."""
    parts = [f"loss {metrics['loss']:.3f}", f"{metrics['tokens_per_second']:,.0f} tokens/s"]
    if "mfu" in metrics:
        parts.append(f"MFU {metrics['mfu']:.1%}")
    if "eta_seconds" in metrics:
        parts.append(f"ETA {timedelta(seconds=round(metrics['eta_seconds']))}")
    if "dollars" in metrics:
        parts.append(f"${metrics['dollars']:,.2f}")
    return "  ".join(parts)
