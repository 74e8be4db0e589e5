"""Where answers come from: a server, or a checkpoint opened in this process."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from demiurgic_jax.cli.settings import Resolved
from demiurgic_jax.cli.terminal import note
from demiurgic_jax.data.completer import Completion, CompletionRequest
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.client import stream_completion
from demiurgic_jax.sampling.stream import Piece

Ask = Callable[[CompletionRequest], Generator[Piece, None, Completion]]


@contextmanager
def open_source(settings: Mapping[str, Resolved]) -> Iterator[Ask]:
    """What answers requests: the server or the checkpoint of the settings, else the newest run here."""
    if url := settings["url"].value:
        yield partial(stream_completion, base_url(url), model=settings["model"].value, api_key=api_key(settings))
        return
    # Only now: importing the engine imports JAX, which takes seconds.
    checkpoint = find_checkpoint(settings["checkpoint"].value)
    from demiurgic_jax.sampling.opening import open_engine

    with open_engine(checkpoint, slots=1) as engine:

        def ask(request: CompletionRequest) -> Generator[Piece, None, Completion]:
            stream = engine.submit(request)
            try:
                yield from stream
            finally:
                stream.cancel()
            return stream.result()

        yield ask


def base_url(url: str) -> str:
    """http://HOST:PORT is taken for http://HOST:PORT/v1, where the API of every such server is."""
    return url.rstrip("/") + "/v1" if urlsplit(url).path in ("", "/") and "://" in url else url


def api_key(settings: Mapping[str, Resolved]) -> str | None:
    """The key that the environment holds. Raises UserError when a variable was chosen for it that is not set."""
    name, origin = settings["key_env"]
    key = os.environ.get(name)
    if not key and origin != "default":
        raise UserError(f"{origin} is {name}, and the environment has no variable {name}: export {name}=KEY")
    return key


def find_checkpoint(given: str | None) -> Path:
    """The folder given, else the newest under runs/ (which is said on stderr)."""
    if given:
        return Path(given)
    folders = checkpoint_folders(Path("runs"))
    if not folders:
        raise UserError(
            "there is no model to ask: give --url or --checkpoint, set DEMIURGIC_URL or DEMIURGIC_CHECKPOINT, "
            "or run this where runs/NAME/train/checkpoints is"
        )
    note(f"using {folders[0]}, the newest run here")
    return folders[0]


def checkpoint_folders(runs: Path) -> list[Path]:
    """The folders under `runs` that hold checkpoints, the newest first."""
    steps = [step for step in runs.glob("*/train/checkpoints/*") if step.name.isdigit()]
    newest = {step.parent: 0.0 for step in steps}
    for step in steps:
        newest[step.parent] = max(newest[step.parent], step.stat().st_mtime)
    return sorted(newest, key=lambda folder: newest[folder], reverse=True)


def model_name(checkpoint: Path) -> str:
    """How a checkpoint is called when it is served: its run's name."""
    path = checkpoint.absolute()
    return path.parents[1].name if path.match("*/train/checkpoints") else path.name
