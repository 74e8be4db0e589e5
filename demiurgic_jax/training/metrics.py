"""Where metrics go: JSON lines always, TensorBoard event files where TensorFlow is installed."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import jax

from demiurgic_jax.data.files import replacing


class MetricLog:
    """`metrics.jsonl` in a run's folder: one object a line with `step` and named numbers.

    Opened at step `resume_from`, it drops the lines of later steps: the run is about to write them again. Of several
    processes the first one writes, and the log of the others is silent.
    """

    _file: TextIO | None = None
    _tensorboard: Any = None

    def __init__(self, folder: Path, resume_from: int | None):
        if jax.process_index() > 0:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        kept = [] if resume_from is None else [row for row in read_metrics(path) if row["step"] <= resume_from]
        with replacing(path) as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in kept)
        self._file = path.open("a")
        self._tensorboard = _tensorboard_writer(folder / "tensorboard")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        if self._tensorboard is not None:
            self._tensorboard.write_scalars(step, values)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()


def _tensorboard_writer(folder: Path) -> Any:
    """clu's writer, or None: it imports TensorFlow and TensorBoard, which no run needs."""
    if not all(importlib.util.find_spec(package) for package in ("tensorflow", "tensorboard")):
        return None
    from clu import metric_writers

    return metric_writers.SummaryWriter(str(folder))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; none when it does not exist. A last line cut off by a kill is left out."""
    return list(_rows(path)) if path.exists() else []


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)
