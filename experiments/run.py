"""The main job: `python -m experiments.run --config=quickstart`.

Runs the stages seeds → teach → verify → corpus → tokenizer → shards → train → evaluate → report of a
named experiment; corpus only for those that have one. Finished stages whose inputs are unchanged are
skipped, changed ones are done again, and a killed run goes on where it was. Started as several
processes (by SLURM, GKE, on a TPU VM, or with JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID set) on one workdir, they train together.
"""

import argparse
import errno
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict
from rich.console import Console

from demiurgic_jax.data.files import NO_ROOM
from demiurgic_jax.errors import PreemptedError, UserError
from experiments.configuration import config_docstring, config_names, load_config
from experiments.progress import StageProgress
from experiments.workdir import Manifest, Workdir, canonical_hash

if TYPE_CHECKING:
    from experiments.stages.stage import Run, Stage

# 75 is EX_TEMPFAIL of sysexits.h: "try again later". A watchdog's 124 is in training/watchdog.py.
USER_ERROR, FAILURE, PREEMPTED, STOPPED = 2, 1, 75, 130
UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
# What the first process tells the others: the topic is a stage's name, or END.
EXECUTE, SKIP, END = "execute", "skip", "end"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 (failure), 2 (the user's mistake), 75 (saved after SIGTERM) or
    130 (interrupted)."""
    console = Console(stderr=True)
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments, overrides = parse_arguments(argv)
        if arguments.describe:
            print(config_docstring(arguments.config).strip())
            return 0
        run_stages(arguments, overrides, " ".join(argv), console)
    except (Exception, KeyboardInterrupt) as error:
        return explain(error, console)[0]
    return 0


def explain(error: BaseException, console: Console) -> tuple[int, str]:
    """Says why the run stops; returns the exit status, and what was said in one line."""
    if isinstance(error, UserError):
        status, reason = USER_ERROR, f"error: {error}"
    elif isinstance(error, OSError) and error.errno in NO_ROOM:
        where = f" ({error.filename})" if error.filename else ""
        status, reason = USER_ERROR, f"error: the disk is full{where}: free some space and run the same command again"
    elif isinstance(error, OSError) and error.errno in UNWRITABLE:
        where = f"{error.filename} cannot be written" if error.filename else "the disk cannot be written"
        status, reason = (
            USER_ERROR,
            f"error: {where} ({error.strerror}): give a --workdir that can, or mount it writable",
        )
    elif isinstance(error, PreemptedError):
        status, reason = PREEMPTED, str(error)
    elif isinstance(error, KeyboardInterrupt):
        status, reason = STOPPED, "stopped; the same command goes on from here"
    else:
        traceback.print_exception(error)
        return FAILURE, f"failed: {type(error).__name__}: {error}"
    say(console, reason)
    return status, reason


def say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Flags, and the overrides among them as (field, text)."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="experiments: " + ", ".join(config_names()) + "\n\nexamples:\n"
        "  python -m experiments.run --config=quickstart\n"
        "  python -m experiments.run --config=quickstart --describe\n"
        "  python -m experiments.run --config=quickstart --profile=10:3\n"
        "  python -m experiments.run --config=quickstart --stages=train,evaluate,report --config.train.steps=200\n"
        "  python -m experiments.run --config=quickstart --workdir=/tmp/mine --config.seeds.sources=src "
        "--config.seeds.licence=MIT\n",
    )
    parser.add_argument(
        "--config", required=True, metavar="NAME", help="which experiment: a file in experiments/configs"
    )
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="where its files go (default: runs/NAME)")
    parser.add_argument("--stages", metavar="A,B", help="only these stages (default: all that are not finished)")
    parser.add_argument(
        "--start-timeout", type=float, default=300.0, metavar="SECONDS", help="how long processes wait for each other"
    )
    parser.add_argument(
        "--profile", metavar="START:COUNT", help="write an XProf trace of training steps START to START+COUNT-1"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what asking the teacher will cost, by task and model; send nothing"
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="ask the teacher only the I-th (from 0) of N parts of the requests, within an N-th of the budget, into a "
        "ledger of its own; then python -m tools.merge_ledgers DIR",
    )
    parser.add_argument("--describe", action="store_true", help="print what the experiment needs and gives, and stop")
    parser.add_argument_group(
        "overrides", "--config.FIELD=VALUE sets one field, e.g. --config.train.optimizer.learning_rate=3e-4"
    )
    arguments, rest = parser.parse_known_args(argv)
    overrides = []
    remaining = iter(rest)
    for argument in remaining:
        match = re.fullmatch(r"--config\.([\w.]+)(?:=(.*))?", argument, re.DOTALL)
        if match is None:
            raise UserError(f"argument {argument!r} is unknown: see python -m experiments.run --help")
        value = match[2] if match[2] is not None else next(remaining, None)
        if value is None:
            raise UserError(f"--config.{match[1]} has no value: write --config.{match[1]}=VALUE")
        overrides.append((match[1], value))
    return arguments, overrides


def run_stages(
    arguments: argparse.Namespace, overrides: Sequence[tuple[str, str]], command: str, console: Console
) -> None:
    """Does what is not done yet, together with the other processes if there are any. UserError for every mistake of
    the user's."""
    config = load_config(arguments.config, overrides)
    # Imported here: they bring JAX along, which a wrong name or --help should not wait for.
    import jax

    from demiurgic_jax.sharding.messages import end_all, ended_with_others
    from demiurgic_jax.sharding.processes import start_processes
    from demiurgic_jax.training.profiling import ProfileWindow
    from experiments.stages.cache import prepare_jax
    from experiments.stages.order import STAGES
    from experiments.stages.stage import Run

    profile = None if arguments.profile is None else ProfileWindow.parse(arguments.profile)
    names = [stage.name for stage in STAGES]
    only = arguments.stages
    wanted = names if only is None else [part.strip() for part in only.split(",") if part.strip()]
    for stage_name in wanted:
        if stage_name not in names:
            raise UserError(f"stage {stage_name!r} does not exist: choose from {', '.join(names)}")
    if profile is not None and "train" not in wanted:
        raise UserError("--profile looks at training steps: add train to --stages")
    stages = [stage for stage in STAGES if stage.name in wanted]
    path = arguments.workdir or Path("runs") / arguments.config
    prepare_jax()
    if arguments.dry_run or arguments.shard:
        from experiments.stages.teach import ask_shard, price_run

        # Beside the run: other processes may do the same at this moment, and no stage is finished by it.
        run = Run(arguments.config, config, Workdir(path, arguments.config, config))
        with StageProgress("teach", console) as progress:
            if arguments.dry_run:
                price_run(run, progress)
            else:
                ask_shard(run, arguments.shard, progress)
        return
    index = start_processes(command, arguments.start_timeout)
    with ended_with_others(lambda reason: say(console, reason)):
        try:
            if index == 0:
                lead(Run(arguments.config, config, Workdir(path, arguments.config, config), profile), stages, console)
            else:
                follow(
                    lambda: Run(arguments.config, config, _shared_workdir(path, arguments.config, config), profile),
                    stages,
                )
        except (Exception, KeyboardInterrupt) as error:
            if jax.distributed.is_initialized():
                end_all(*explain(error, console))
            raise


def lead(run: "Run", stages: Sequence["Stage"], console: Console) -> None:
    """What the first process does: all that is not done yet, telling the others when it is their turn."""
    from demiurgic_jax.sharding.messages import tell
    from experiments.stages.order import STAGES

    say(console, f"[{run.name}] {run.workdir.path}")
    stages = [stage for stage in stages if stage.applies(run)]
    for stage in stages:
        stage.check(run)
    away = {stage.name for stage in STAGES if not stage.applies(run)}
    for stage in stages:
        needs = [needed for needed in stage.needs if needed not in away]
        for needed in needs:
            if run.workdir.manifest(needed) is None:
                raise UserError(f"stage {stage.name} needs stage {needed}: add it to --stages")
        inputs = {
            "config": stage.inputs(run),
            "needs": {needed: _lasting(run.workdir.manifest(needed)) for needed in needs},
        }
        finished = run.workdir.manifest(stage.name)
        with StageProgress(stage.name, console) as progress:
            if finished is not None and finished.inputs_hash == canonical_hash(inputs):
                if stage.name == "train" and run.profile is not None:
                    raise UserError(
                        "--profile finds no steps to look at, since train is finished: give more of them "
                        "(--config.train.steps) or a new --workdir"
                    )
                tell(stage.name, SKIP)
                progress.say(f"already done: {stage.summary(finished.outputs)}")
                continue
            aside = run.workdir.begin(stage.name, inputs, keep_replaced=stage.keep_replaced)
            if aside is not None:
                progress.say(f"its inputs changed: what they made before is kept in {aside}")
            tell(stage.name, EXECUTE)
            started = time.monotonic()
            outputs = stage.execute(run, progress)
            finished = run.workdir.finish(stage.name, inputs, outputs, time.monotonic() - started)
            progress.say(f"{stage.summary(outputs)} ({finished.seconds:,.1f} s)")
    tell(END, "")


def follow(open_run: Callable[[], "Run"], stages: Sequence["Stage"]) -> None:
    """What the other processes do: their part of the stages that run on the mesh, in silence."""
    from demiurgic_jax.sharding.messages import hear

    for stage in stages:
        if stage.on_mesh and hear(stage.name) == EXECUTE:
            stage.execute(open_run(), StageProgress(stage.name, Console(quiet=True)))
    hear(END)


def _shared_workdir(path: Path, config_name: str, config: ConfigDict) -> Workdir:
    if not (path / "config.json").exists():
        raise UserError(
            f"workdir {path.absolute()} is empty here, though the first process has written to its own: give a "
            "--workdir on a disk that all processes share"
        )
    return Workdir(path, config_name, config)


def _lasting(manifest: Manifest | None) -> dict[str, object]:
    """Outputs that a later stage is made from: all but the measured times and speeds."""
    assert manifest is not None
    return {name: value for name, value in manifest.outputs.items() if name != "measured"}


if __name__ == "__main__":
    sys.exit(main())
