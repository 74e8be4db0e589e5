"""report: report.json, report.md and report.html in the workdir."""

from collections.abc import Mapping
from typing import Any

from experiments.progress import StageProgress
from experiments.report import gather, write_report
from experiments.stages.stage import Run, Stage

BEFORE = ("seeds", "teach", "verify", "tokenizer", "shards", "train", "evaluate")


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    progress.doing("drawing the report")
    paths = write_report(run.workdir, gather(run.name, run.workdir, BEFORE))
    return {"files": [path.name for path in paths], "measured": {"folder": str(run.workdir.path)}}


REPORT = Stage(
    name="report",
    needs=BEFORE,
    inputs=lambda run: {},
    execute=_execute,
    summary=lambda out: f"{out['measured']['folder']}/report.html",
)
