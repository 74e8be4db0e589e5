"""Losses that spike or are no numbers: what counts as one, and what is done about it.

With `skip` the run goes back to its last checkpoint and leaves out the data between it and the spike, as PaLM's did
(Chowdhery et al. 2022, section 5.1): the same batches met with other parameters did no harm there.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np

from demiurgic_jax.data.files import replacing
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.errors import UserError
from demiurgic_jax.training.resuming import Phase

ACTS = ("stop", "skip")
# How many documents of a spike are said aloud.
NAMED = 8


@dataclass(frozen=True)
class SpikeConfig:
    """A step whose loss or gradient is no finite number is a spike, and with `sigmas` > 0 one whose loss is that many
    standard deviations above the mean of the last `window`. `act`: `stop` the run, or `skip` the data. After
    `rollbacks` to the same checkpoint a run stops in any case."""

    act: str = "stop"
    sigmas: float = 0.0
    window: int = 128
    rollbacks: int = 3

    def __post_init__(self) -> None:
        if self.act not in ACTS:
            raise UserError(f"train.spike.act={self.act!r} is unknown: choose one of {', '.join(ACTS)}")
        if self.window < 2 or self.sigmas < 0 or self.rollbacks < 1:
            raise UserError("train.spike needs a window of at least 2, sigmas of at least 0, rollbacks of at least 1")


class DivergedError(RuntimeError):
    """A loss spiked, or it or a gradient stopped being a finite number, at `step`."""

    def __init__(self, step: int, name: str, value: float, said: str):
        self.step, self.name, self.value, self.said = step, name, value, said
        super().__init__(f"{name} is {value:g} at step {step}{said}")


def require_healthy(step: int, metrics: Mapping[str, float], recent: Sequence[float], config: SpikeConfig) -> None:
    """DivergedError when the `metrics` of `step` are a spike after the `recent` losses, newest last."""
    for name in ("loss", *metrics):
        if not math.isfinite(metrics[name]):
            raise DivergedError(step, name, metrics[name], "")
    if config.sigmas and len(recent) >= config.window:
        mean, deviation = float(np.mean(recent)), float(np.std(recent))
        if metrics["loss"] > mean + config.sigmas * deviation:
            before = f", a spike: {mean:g} ± {deviation:g} over the {len(recent)} steps before"
            raise DivergedError(step, "loss", metrics["loss"], before)


@dataclass(frozen=True)
class Skipped:
    """Data steps `first` to `last` of a phase were left out after a spike at `step`, from `checkpoint` on."""

    phase: str
    checkpoint: int
    step: int
    metric: str
    value: str
    first: int
    last: int


class SkippedData:
    """What a run leaves out of a phase's data, in `folder`/skipped.json. Every checkpoint's card repeats the ranges."""

    def __init__(self, folder: Path, phase: str):
        self._path, self._phase = folder / "skipped.json", phase
        self.records: list[Skipped] = []
        if self._path.exists():
            self.records = [Skipped(**record) for record in json.loads(self._path.read_text())]
        self.ranges = merged((each.first, each.last) for each in self.records if each.phase == phase)

    def include(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Those of a checkpoint's card: a folder may hold the checkpoint and no more."""
        self.ranges = merged([*self.ranges, *ranges])

    def rollbacks_to(self, checkpoint: int) -> int:
        """How often the run has already gone back to `checkpoint`."""
        return sum((each.phase, each.checkpoint) == (self._phase, checkpoint) for each in self.records)

    def add(self, checkpoint: int, spike: DivergedError, first: int, last: int) -> None:
        """Leaves out the data steps `first` to `last`, for good, also when the run is killed now."""
        record = Skipped(self._phase, checkpoint, spike.step, spike.name, f"{spike.value:g}", first, last)
        self.records.append(record)
        self.include([(first, last)])
        if jax.process_index() == 0:
            with replacing(self._path) as file:
                file.write(json.dumps([asdict(each) for each in self.records], indent=1).encode() + b"\n")

    def data_step(self, step: int) -> int:
        """The data that `step` of the phase (counted from 0) is made with: the `step`-th that is not left out."""
        for first, last in self.ranges:
            if step < first:
                break
            step += last - first + 1
        return step


def skip_or_stop(
    spike: DivergedError,
    config: SpikeConfig,
    skipped: SkippedData,
    checkpoint: int | None,
    phase: Phase,
    loader: Loader,
    folder: Path,
    warn: Callable[[str], None],
) -> None:
    """Leaves out the data from `checkpoint` to the spike, or raises DivergedError again, as `config` says.

    Either way `folder`/spikes/STEP.jsonl gets a line for every batch concerned, with the keys of its documents by row.
    """
    back_to = phase.start if checkpoint is None else checkpoint
    last = skipped.data_step(spike.step - 1 - phase.start)
    first = skipped.data_step(back_to - phase.start)
    gives_up = skipped.rollbacks_to(back_to) >= config.rollbacks
    stops = config.act == "stop" or gives_up
    rows = folder / "spikes" / f"{spike.step}.jsonl"
    named = _write_rows(rows, loader, last if stops else first, last)
    if not stops:
        skipped.add(back_to, spike, first, last)
        warn(
            f"{spike}: back to step {back_to}; its data, batches {first} to {last}, is skipped from now on. "
            f"Documents of the spike: {named}; all are in {rows}"
        )
        return
    again = f", after {config.rollbacks} times back to step {back_to} and other data" if gives_up else ""
    mend = "" if config.act == "skip" else ", or leave its data out (train.spike.act=skip)"
    raise DivergedError(
        spike.step,
        spike.name,
        spike.value,
        f"{spike.said}{again}: lower train.optimizer.learning_rate{mend}; the last checkpoint is whole. Documents of "
        f"that step: {named}; all are in {rows}",
    ) from spike


def _write_rows(path: Path, loader: Loader, first: int, last: int) -> str:
    """Writes which documents the batches `first` to `last` are made of; returns a few of the last one's."""
    keys = [key for row in loader.rows_in(last) for key in row]
    if jax.process_index() == 0:
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as file:
            for data_step in range(first, last + 1):
                line = {"batch": data_step, "documents": loader.rows_in(data_step)}
                file.write(json.dumps(line).encode() + b"\n")
    return ", ".join(keys[:NAMED]) + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")


def merged(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same numbers as ascending inclusive ranges with gaps between them."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)
