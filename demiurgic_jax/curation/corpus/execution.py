"""Where a stage's tasks run: processes of this machine, SLURM or Ray, by datatrove's executors.

A task that finished leaves an empty file in `logs`/completions and is never run again; what a killed one wrote is
written over by its next run.
"""

import errno
import io
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.utils.logging import logger

from demiurgic_jax.errors import UserError

# Tasks done, tasks there are, what they are called.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Execution:
    """`kind` of executor, `workers` tasks at a time (0: all cores of this machine, all tasks elsewhere), and `options`
    of datatrove's executor of that kind: for SLURM partition and time at least. With Ray a cluster must be there
    (`ray start`), and `ray.init` finds it by RAY_ADDRESS; `folder` must be on a disk that all machines share."""

    kind: Literal["local", "slurm", "ray"] = "local"
    workers: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in ("local", "slurm", "ray"):
            raise UserError(f"executor {self.kind!r} is unknown: choose local, slurm or ray")
        if self.kind == "slurm" and not {"partition", "time"} <= set(self.options):
            raise UserError(
                "executor slurm needs options partition and time, e.g. {'partition': 'cpu', 'time': '8:00:00'}"
            )


class _Local(LocalPipelineExecutor):
    """Says nothing on the console: what a task logs is in its file, and a failure is raised."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        logger.enable("datatrove")
        try:
            with redirect_stderr(io.StringIO()):
                return super()._run_for_rank(rank, 1, node_rank)
        finally:
            logger.disable("datatrove")


def run_stage(
    name: str, blocks: Sequence[Any], tasks: int, logs: Path, execution: Execution, progress: Progress, cores: int
) -> None:
    """Runs what is not done of `tasks` tasks, each all of `blocks`, and waits. Raises UserError where a disk is full,
    and RuntimeError naming a log where a task failed on another machine."""
    logger.disable("datatrove")
    executor = _executor(name, blocks, tasks, logs, execution, cores)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(executor, tasks, done, progress), daemon=True)
    watcher.start()
    started = time.monotonic()
    try:
        logs.mkdir(parents=True, exist_ok=True)
        if executor.get_incomplete_ranks():
            executor.run()
            if execution.kind == "slurm":
                _wait(executor)
        _add_seconds(logs, time.monotonic() - started)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk of {logs.parent.parent} is full: free some space and run again, finished tasks are kept"
        ) from error
    finally:
        done.set()
        watcher.join()
    if missing := executor.get_incomplete_ranks():
        raise RuntimeError(
            f"{len(missing)} of {tasks} tasks of {name} failed: see {logs}/logs/task_{missing[0]:05d}.log"
        )


def _executor(
    name: str, blocks: Sequence[Any], tasks: int, logs: Path, execution: Execution, cores: int
) -> PipelineExecutor:
    common: dict[str, Any] = {"pipeline": list(blocks), "tasks": tasks, "logging_dir": str(logs)}
    workers = execution.workers or (cores if execution.kind == "local" else -1)
    if execution.kind == "local":
        return _Local(**common, workers=max(1, min(workers, tasks)))
    if execution.kind == "slurm":
        return SlurmPipelineExecutor(**common, workers=workers, job_name=f"corpus-{name}", **execution.options)
    import ray

    if not ray.is_initialized():
        ray.init(address="auto")
    return RayPipelineExecutor(**common, workers=workers, **execution.options)


def _watch(executor: PipelineExecutor, tasks: int, done: threading.Event, progress: Progress) -> None:
    while not done.wait(1.0):
        progress(tasks - len(executor.get_incomplete_ranks()), tasks, "tasks")


def _wait(executor: PipelineExecutor) -> None:
    """SLURM was only told; it is done when every task has left its mark."""
    while executor.get_incomplete_ranks():
        time.sleep(10.0)


def _add_seconds(logs: Path, seconds: float) -> None:
    path = logs / "seconds.json"
    before = json.loads(path.read_text()) if path.exists() else 0.0
    # A disk that is full just here must not leave half a number.
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(before + seconds))
    unfinished.replace(path)
