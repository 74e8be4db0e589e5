"""Where metrics go: JSON lines always, TensorBoard event files where TensorFlow is installed."""

import importlib.util
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import jax
from clu.parameter_overview import get_parameter_overview

from demiurgic_jax.data.files import replacing
from demiurgic_jax.errors import UserError
from demiurgic_jax.training.attempts import RunHistory, begin_attempt

TENSORBOARD_CHOICES = ("auto", "on", "off")
# What two equal runs differ in: all that is measured by the clock, and memory.
MEASURED = frozenset(
    {
        "tokens_per_second",
        "step_seconds",
        "data_wait_share",
        "mfu",
        "goodput",
        "eta_seconds",
        "dollars",
        "device_memory_peak_bytes",
        "host_memory_peak_bytes",
        "unix_time",
    }
)


@dataclass(frozen=True)
class MetricsConfig:
    """How a run is measured; none of it changes what is learnt.

    `dollars_per_hour` is that of all machines together, 0 for unknown. `chip_tflops` is the dense peak of one device
    in 10¹² FLOP/s that MFU refers to; 0: bfloat16's, from the table of chips. `tensorboard` writes event files:
    "auto" where TensorFlow and TensorBoard are installed, "on", "off".
    """

    dollars_per_hour: float = 0.0
    chip_tflops: float = 0.0
    tensorboard: Literal["auto", "on", "off"] = "auto"

    def __post_init__(self) -> None:
        if self.tensorboard not in TENSORBOARD_CHOICES:
            raise UserError(
                f"train.metrics.tensorboard={self.tensorboard!r} is unknown: choose one of "
                f"{', '.join(TENSORBOARD_CHOICES)}"
            )
        for name in ("dollars_per_hour", "chip_tflops"):
            if getattr(self, name) < 0:
                raise UserError(f"train.metrics.{name}={getattr(self, name)} is below 0")
        if self.tensorboard == "on" and not _has_tensorboard():
            raise UserError(
                "train.metrics.tensorboard=on needs TensorFlow and TensorBoard: pip install 'demiurgic_jax[tfds]', or "
                "--config.train.metrics.tensorboard=off"
            )


class MetricLog:
    """`metrics.jsonl` in a run's folder: one object a line with `step` and named numbers.

    Opened at step `resume_from`, it drops the lines of later steps: the run is about to write them again. `history` is
    what is known of the run's earlier attempts; this one `began` (Unix seconds). Of several processes the first one
    writes, and the log of the others is silent.
    """

    _file: TextIO | None = None
    _tensorboard: Any = None

    def __init__(
        self, folder: Path, resume_from: int | None, *, began: float | None = None, tensorboard: str = "auto"
    ) -> None:
        began = time.time() if began is None else began
        if jax.process_index() > 0:
            self.history = RunHistory(began, began)
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        rows = read_metrics(path)
        kept = [] if resume_from is None else [row for row in rows if row["step"] <= resume_from]
        # Before the lines are dropped: they say how long the attempt that wrote them has worked.
        self.history = begin_attempt(folder, began, resume_from, rows, kept)
        with replacing(path) as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in kept)
        self._file = path.open("a")
        if tensorboard == "on" or (tensorboard == "auto" and _has_tensorboard()):
            self._tensorboard = _event_writer(folder / "tensorboard")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"step": step, "unix_time": time.time(), **values}) + "\n")
            self._file.flush()
        if self._tensorboard is not None:
            # Event files have the time of each event, and only 24 bits for a number.
            self._tensorboard.write_scalars(step, {name: x for name, x in values.items() if name != "unix_time"})

    def describe(self, **texts: str) -> None:
        """Texts that TensorBoard shows beside the curves."""
        if self._tensorboard is not None:
            self._tensorboard.write_texts(0, {name: f"```\n{text}\n```" for name, text in texts.items()})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()


def perplexity(cross_entropy: float) -> float:
    """e to the cross-entropy (nats per token); a float's largest where it would be more."""
    return math.exp(min(cross_entropy, 709.0))


def parameter_overview(params: Any) -> str:
    """A table of name, shape, dtype and size of a tree of arrays (abstract ones will do), with their sum."""
    return get_parameter_overview(params, include_stats=False)


def _has_tensorboard() -> bool:
    return all(importlib.util.find_spec(package) for package in ("tensorflow", "tensorboard"))


def _event_writer(folder: Path) -> Any:
    """clu's writer, in a thread of its own. Imported here: it brings TensorFlow, which no run needs."""
    import tensorflow
    from clu import metric_writers

    # TensorFlow takes all memory of every GPU it sees.
    tensorflow.config.set_visible_devices([], "GPU")
    return metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; none when it does not exist. A last line cut off by a kill is left out."""
    return list(_rows(path)) if path.exists() else []


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)
