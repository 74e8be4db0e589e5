"""The main job: `python -m experiments.run --config=quickstart`.

Runs the stages seeds → teach → verify → tokenizer → shards → train → evaluate → report of a named
experiment. Finished stages whose inputs are unchanged are skipped, changed ones are done again, and
a killed run goes on where it was.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from demiurgic_jax.data.files import NO_ROOM
from demiurgic_jax.errors import UserError
from experiments.configuration import config_docstring, config_names, load_config
from experiments.progress import StageProgress
from experiments.workdir import Manifest, Workdir, canonical_hash

USER_ERROR, FAILURE = 2, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 (failure) or 2 (the user's mistake)."""
    console = Console(stderr=True)
    try:
        arguments, overrides = parse_arguments(sys.argv[1:] if argv is None else argv)
        if arguments.describe:
            print(config_docstring(arguments.config).strip())
            return 0
        run_stages(arguments.config, overrides, arguments.workdir, arguments.stages, console)
    except UserError as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return USER_ERROR
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = f" ({error.filename})" if error.filename else ""
        console.print(f"error: the disk is full{where}: free some space and run the same command again", markup=False)
        return USER_ERROR
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here", markup=False)
        return 130
    return 0


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
        "  python -m experiments.run --config=quickstart --stages=train,evaluate,report --config.train.steps=200\n"
        "  python -m experiments.run --config=quickstart --workdir=/tmp/mine --config.seeds.folder=src "
        "--config.seeds.licence=MIT\n",
    )
    parser.add_argument(
        "--config", required=True, metavar="NAME", help="which experiment: a file in experiments/configs"
    )
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="where its files go (default: runs/NAME)")
    parser.add_argument("--stages", metavar="A,B", help="only these stages (default: all that are not finished)")
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
    name: str, overrides: Sequence[tuple[str, str]], workdir: Path | None, only: str | None, console: Console
) -> None:
    """Does what is not done yet. Raises UserError for every mistake of the user's."""
    config = load_config(name, overrides)
    # Imported here: the stages bring JAX along, which a wrong name or --help should not wait for.
    from experiments.stages.cache import prepare_jax
    from experiments.stages.order import STAGES
    from experiments.stages.stage import Run

    names = [stage.name for stage in STAGES]
    wanted = names if only is None else [part.strip() for part in only.split(",") if part.strip()]
    for stage_name in wanted:
        if stage_name not in names:
            raise UserError(f"stage {stage_name!r} does not exist: choose from {', '.join(names)}")
    prepare_jax()
    run = Run(name, config, Workdir(workdir or Path("runs") / name, name, config))
    console.print(f"[{name}] {run.workdir.path}", markup=False, highlight=False, soft_wrap=True)
    for stage in STAGES:
        if stage.name not in wanted:
            continue
        for needed in stage.needs:
            if run.workdir.manifest(needed) is None:
                raise UserError(f"stage {stage.name} needs stage {needed}: add it to --stages")
        inputs = {
            "config": stage.inputs(run),
            "needs": {needed: _lasting(run.workdir.manifest(needed)) for needed in stage.needs},
        }
        finished = run.workdir.manifest(stage.name)
        with StageProgress(stage.name, console) as progress:
            if finished is not None and finished.inputs_hash == canonical_hash(inputs):
                progress.say(f"already done: {stage.summary(finished.outputs)}")
                continue
            aside = run.workdir.begin(stage.name, inputs, keep_replaced=stage.keep_replaced)
            if aside is not None:
                progress.say(f"its inputs changed: what they made before is kept in {aside}")
            started = time.monotonic()
            outputs = stage.execute(run, progress)
            finished = run.workdir.finish(stage.name, inputs, outputs, time.monotonic() - started)
            progress.say(f"{stage.summary(outputs)} ({finished.seconds:,.1f} s)")


def _lasting(manifest: Manifest | None) -> dict[str, object]:
    """Outputs that a later stage is made from: all but the measured times and speeds."""
    assert manifest is not None
    return {name: value for name, value in manifest.outputs.items() if name != "measured"}


if __name__ == "__main__":
    sys.exit(main())
