"""Where answers come from: a server, or a checkpoint opened in this process."""

import argparse
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.client import stream_completion
from demiurgic_jax.sampling.stream import Piece

Ask = Callable[[CompletionRequest], Generator[Piece, None, Completion]]

URL_VARIABLE = "DEMIURGIC_URL"
CHECKPOINT_VARIABLE = "DEMIURGIC_CHECKPOINT"
KEY_VARIABLE = "DEMIURGIC_API_KEY"


@contextmanager
def open_source(options: argparse.Namespace) -> Iterator[Ask]:
    """What answers requests, by --url or --checkpoint, else the environment, else the newest run here."""
    url = options.url or (None if options.checkpoint else os.environ.get(URL_VARIABLE))
    if url:
        yield partial(stream_completion, url, model=options.model, api_key=os.environ.get(KEY_VARIABLE))
        return
    # Only now: importing the engine imports JAX, which takes seconds.
    from demiurgic_jax.sampling.opening import open_engine

    with open_engine(find_checkpoint(options.checkpoint), slots=1) as engine:

        def ask(request: CompletionRequest) -> Generator[Piece, None, Completion]:
            stream = engine.submit(request)
            try:
                yield from stream
            finally:
                stream.cancel()
            return stream.result()

        yield ask


def find_checkpoint(given: str | None) -> Path:
    """The folder given, else the environment's, else the newest under runs/ (which is said on stderr)."""
    if named := given or os.environ.get(CHECKPOINT_VARIABLE):
        return Path(named)
    steps = [step for step in Path("runs").glob("*/train/checkpoints/*") if step.name.isdigit()]
    if not steps:
        raise UserError(
            "there is no model to ask: give --url or --checkpoint, "
            f"set {URL_VARIABLE} or {CHECKPOINT_VARIABLE}, or run this where runs/NAME/train/checkpoints is"
        )
    folder = max(steps, key=lambda step: step.stat().st_mtime).parent
    print(f"demiurgic: using {folder}, the newest run here", file=sys.stderr)
    return folder


def model_name(checkpoint: Path) -> str:
    """How a checkpoint is called when it is served: its run's name."""
    path = checkpoint.absolute()
    return path.parents[1].name if path.match("*/train/checkpoints") else path.name
