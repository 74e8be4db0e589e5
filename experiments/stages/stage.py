"""What a stage is, and what it is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from demiurgic_jax.training.profiling import ProfileWindow
from experiments.progress import StageProgress
from experiments.workdir import Workdir


@dataclass(frozen=True)
class Run:
    """One run of an experiment, as every stage sees it; of `profile` steps training leaves a trace."""

    name: str
    config: ConfigDict
    workdir: Workdir
    profile: ProfileWindow | None = None

    def outputs(self, stage: str) -> Mapping[str, Any]:
        """What the finished `stage` left in its manifest."""
        manifest = self.workdir.manifest(stage)
        assert manifest is not None, f"{stage} is declared as needed, so the runner has seen it finished"
        return manifest.outputs

    def file(self, stage: str, name: str) -> Path:
        return self.workdir.folder(stage) / name


@dataclass(frozen=True)
class Stage:
    """`inputs` says in JSON what the stage is made from besides the outputs of the stages it `needs`; it is
    redone when either changes. `check` raises UserError for what of the config can be seen to be wrong before any stage
    has cost anything. `execute` is idempotent and resumes after a kill; it returns its outputs,
    whose values must follow from the inputs alone, except those in `measured`. `keep_replaced` moves what
    other inputs made aside instead of removing it. A stage `on_mesh` is executed by all processes of the run together,
    any other by the first one alone; what the first one returns counts. A run that a stage does not apply to
    goes without it, and so do the stages that need it."""

    name: str
    needs: tuple[str, ...]
    inputs: Callable[[Run], Mapping[str, Any]]
    execute: Callable[[Run, StageProgress], Mapping[str, Any]]
    summary: Callable[[Mapping[str, Any]], str]
    check: Callable[[Run], None] = lambda run: None
    applies: Callable[[Run], bool] = lambda run: True
    keep_replaced: bool = False
    on_mesh: bool = False
