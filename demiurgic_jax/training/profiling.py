"""XProf traces of a few steps."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class ProfileWindow:
    """`count` steps from `start` on, numbered as in metrics.jsonl: the first step of a run is 1."""

    start: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "ProfileWindow":
        """START:COUNT. UserError for anything else."""
        match = re.fullmatch(r"(\d+):(\d+)", text)
        if match is None or int(match[1]) < 1 or int(match[2]) < 1:
            raise UserError(
                f"--profile={text} is no START:COUNT: give the first step and how many, e.g. --profile=10:3"
            )
        return cls(int(match[1]), int(match[2]))

    @property
    def last(self) -> int:
        return self.start + self.count - 1

    def starts_in(self, made: int, steps: int) -> bool:
        """Whether its first step is one of the `steps` that follow after `made`."""
        return made < self.start <= made + steps

    def require_ahead(self, made: int, steps: int) -> None:
        """UserError unless all of the steps are still to be made, of a run that has `made` of `steps`."""
        if self.start <= made or self.last > steps:
            raise UserError(
                f"--profile={self.start}:{self.count} is not ahead of this run, which has made {made} of {steps} "
                f"steps: profile steps from {made + 1} to {steps}, or give a new --workdir"
            )


def traced(
    batches: Iterator[tuple[int, Batch]], window: ProfileWindow | None, folder: Path
) -> Iterator[tuple[int, Batch]]:
    """The same batches; while those of `window` are worked on, the first process traces, and writes
    `folder`/plugins/profile/TIME/*.xplane.pb. The trace ends with the step after the window: until then the device may
    be busy with the window's last. The first step of an attempt is mostly compilation."""
    if window is None or jax.process_index() > 0:
        yield from batches
        return
    tracing = False
    try:
        for step, batch in batches:
            done = step + 1
            if done == window.start:
                jax.profiler.start_trace(folder)
                tracing = True
            if window.start <= done <= window.last:
                with jax.profiler.StepTraceAnnotation("train", step_num=done):
                    yield step, batch
                continue
            yield step, batch
            if tracing:
                jax.profiler.stop_trace()
                tracing = False
    finally:
        if tracing:
            jax.profiler.stop_trace()
