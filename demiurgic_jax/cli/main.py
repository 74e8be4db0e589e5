"""The `demiurgic` command: parses, dispatches, and turns a user's mistake into one sentence."""

import argparse
import os
import sys
from collections.abc import Sequence

from demiurgic_jax.cli import commands
from demiurgic_jax.errors import UserError

DESCRIPTION = """\
Complete, explain, fix and refactor code with your own model.

The model is a server (--url) or a checkpoint (--checkpoint). Without either, the environment's
DEMIURGIC_URL or DEMIURGIC_CHECKPOINT is used, else the newest runs/*/train/checkpoints of this folder.
A server that wants a key finds it in DEMIURGIC_API_KEY.
"""
EXAMPLES = """\
examples:
  demiurgic complete 'def is_prime(n):'
  demiurgic complete --file half_done.py --max-tokens 64 --stop $'\\n\\n'
  git show HEAD:tool.py | demiurgic explain
  demiurgic fix broken.py --json
  demiurgic refactor long.py --temperature 0.7 --seed 1
  demiurgic chat 'What does functools.partial do?'
  demiurgic serve --checkpoint runs/quickstart/train/checkpoints --port 8000
  demiurgic complete --url http://localhost:8000/v1 'import'

exit status: 0 done, 1 failure, 2 bad input, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Other exceptions than UserError are failures and escape."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(f"demiurgic: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has enough. Python would complain when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="demiurgic",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    complete = _asking(subparsers, "complete", "continue raw text", commands.complete)
    complete.add_argument("text", nargs="?", metavar="TEXT", help="the text to continue (default: stdin)")
    complete.add_argument("-f", "--file", metavar="FILE", help="take the text from a file")
    complete.add_argument("--echo", action="store_true", help="print the text itself first")

    chat = _asking(subparsers, "chat", "ask a question, or hold a conversation on a terminal", commands.chat)
    chat.add_argument("text", nargs="?", metavar="MESSAGE", help="one question (default: stdin)")
    chat.add_argument("--system", metavar="TEXT", help="instructions that hold for the whole conversation")

    for name, help_text in (
        ("explain", "say in a few sentences what code does"),
        ("fix", "mend a function that has a bug"),
        ("refactor", "make a function simpler"),
    ):
        asking = _asking(subparsers, name, help_text, commands.skill)
        asking.add_argument("file", nargs="?", metavar="FILE", help="the code (default: stdin)")

    serve = subparsers.add_parser("serve", help="serve a checkpoint to this command, editors and OpenAI clients")
    serve.set_defaults(run=commands.serve)
    serve.add_argument("--checkpoint", metavar="DIR", help="a run's checkpoints, or one of its steps")
    serve.add_argument("--model", metavar="NAME", help="the name it is served under (default: the run's)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    serve.add_argument("--slots", type=int, default=8, metavar="N", help="requests decoded together (default: 8)")
    serve.add_argument(
        "--max-context", type=int, metavar="N", help="tokens of prompt and answer (default: the model's)"
    )
    return parser


def _asking(subparsers, name: str, help_text: str, run) -> argparse.ArgumentParser:
    """A subcommand that asks the model something, with the options that all of these share."""
    parser = subparsers.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
    parser.set_defaults(run=run)
    source = parser.add_argument_group("model").add_mutually_exclusive_group()
    source.add_argument("--url", help="an OpenAI-compatible server, like http://localhost:8000/v1")
    source.add_argument("--checkpoint", metavar="DIR", help="a run's checkpoints, or one of its steps")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--model", metavar="NAME", help="the server's model to ask (default: its first)")
    sampling.add_argument("--max-tokens", type=int, default=256, metavar="N", help="default: %(default)s")
    sampling.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0, the default, is greedy")
    sampling.add_argument("--top-k", type=int, default=0, metavar="K", help="draw from the K likeliest tokens only")
    sampling.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="draw from the likeliest tokens of mass P"
    )
    sampling.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before TEXT; may be repeated"
    )
    sampling.add_argument("--seed", type=int, metavar="N", help="makes drawing repeatable")
    output = parser.add_argument_group("output")
    output.add_argument("--no-stream", action="store_true", help="print the answer once it is whole")
    output.add_argument("--json", action="store_true", help="print one JSON object: text, finish_reason, token counts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
