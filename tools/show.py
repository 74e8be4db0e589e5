"""Looks at what a run has made: its metrics, shards, checkpoints and batches.

    python -m tools.show runs runs/quickstart                        where it stands, what it cost, held-out by task
    python -m tools.show runs runs/a runs/b --plot=losses.png        compared: figures, what differs in their configs
    python -m tools.show shards runs/quickstart                      counts, languages, licences, provenance, lengths
    python -m tools.show shards gs://bucket/shards --context=4096 --verify
    python -m tools.show checkpoint runs/quickstart                  steps kept, what is inside of the newest
    python -m tools.show checkpoint runs/quickstart --step=44
    python -m tools.show batch runs/quickstart --step=17             what step 17 learnt from, decoded, with its masks
    python -m tools.show batch SHARDS --tokenizer=DIR --step=1 --batch-size=4 --context=1024
    python -m tools.show teacher runs/quickstart                     spend by task, model, language; what is to come

`python -m tools.show COMMAND --help` says more of each. --json prints the same for programs.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from demiurgic_jax.errors import UserError

USER_ERROR = 2
# Of what is not a terminal, and so has no width of its own.
PIPE_WIDTH = 160


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 or 2 (the user's mistake)."""
    options = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    # Imported here: JAX comes along, which --help should not wait for.
    from tools.views import batch, checkpoint, runs, shards, teacher

    views = {"runs": runs, "shards": shards, "checkpoint": checkpoint, "batch": batch, "teacher": teacher}
    console = Console(
        force_terminal=options.color,
        no_color=None if options.color is None else not options.color,
        width=None if sys.stdout.isatty() else PIPE_WIDTH,
        highlight=False,
    )
    try:
        figures = views[options.command].gather(options)
        if options.json:
            print(json.dumps(figures, indent=2, ensure_ascii=False))
        else:
            views[options.command].render(figures, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:
        # The reader (head, less) has enough. Python would complain when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.show",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    runs = _command(
        commands,
        "runs",
        "compare runs: figures, differences, a plot",
        "The state of one run or several: steps, losses, held-out figures by set, language and task, speed, MFU, the "
        "share of time spent waiting for data, goodput, hours, dollars and restarts; and in which fields of their "
        "configs they differ.",
    )
    runs.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="a run's folder, e.g. runs/quickstart")
    runs.add_argument("--plot", type=Path, metavar="FILE", help="draw the metrics over steps (.png, .svg, .pdf)")
    runs.add_argument(
        "--metrics",
        default="loss,heldout/cross_entropy",
        metavar="A,B",
        help="what to draw, one below the other (default: %(default)s)",
    )

    shards = _command(
        commands,
        "shards",
        "describe shard sets",
        "What a shard set holds: documents, tokens, languages, tasks, licences, teacher's soft targets, where all that "
        "comes from, and how long the documents are.",
    )
    shards.add_argument("folders", nargs="+", metavar="FOLDER", help="a shard set, or a run's folder for all of its")
    shards.add_argument("--context", type=int, metavar="N", help="how well the documents fill rows of N tokens")
    shards.add_argument("--verify", action="store_true", help="read every byte and check it against its checksums")

    checkpoint = _command(
        commands,
        "checkpoint",
        "describe a checkpoint",
        "Which steps a run has kept, and what is inside of one: shapes, parameters, network, tokenizer, fingerprints "
        "of the data, provenance. No array is read.",
    )
    checkpoint.add_argument("folder", type=Path, metavar="FOLDER", help="a run's folder, its checkpoints, or one step")
    checkpoint.add_argument("--step", type=int, metavar="N", help="which one (default: the newest)")

    batch = _command(
        commands,
        "batch",
        "decode a batch and its masks",
        "What one step learns from, as text: what is trained on, what is only read (prompts), padding, and where one "
        "document ends and the next begins. Batches are a function of the step, so any can be asked for, made or not. "
        "In colour on a terminal; elsewhere «…» holds what is trained on.",
    )
    batch.add_argument("path", type=Path, metavar="PATH", help="a run's folder, or a shard set")
    batch.add_argument("--step", type=int, default=1, metavar="N", help="as in metrics.jsonl: the first step is 1")
    batch.add_argument("--row", type=int, metavar="R", help="one row of the batch, from 0 (default: all)")
    of_shards = batch.add_argument_group("a shard set says nothing of these")
    of_shards.add_argument("--tokenizer", type=Path, metavar="DIR", help="its tokenizer's files")
    of_shards.add_argument("--batch-size", type=int, default=1, metavar="B", help="rows (default: %(default)s)")
    of_shards.add_argument("--context", type=int, default=512, metavar="S", help="tokens a row (default: %(default)s)")
    of_shards.add_argument("--seed", type=int, default=0, help="of the order (default: %(default)s)")

    teacher = _command(
        commands,
        "teacher",
        "what asking the teacher cost",
        "The run's ledger: answers, failures and dollars by task, model and language, how fast answers come, how long "
        "the rest will take and what it will all have cost, how many answers verification accepted, and why others "
        "were not. May be looked at while the run is asking.",
    )
    teacher.add_argument("workdir", type=Path, metavar="WORKDIR", help="a run's folder, or a ledger (.sqlite)")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print figures for programs")
    parser.add_argument(
        "--color", action=argparse.BooleanOptionalAction, help="colours or none (default: on a terminal)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
