"""What is inside of a checkpoint, without reading its arrays."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from rich.console import Console
from rich.table import Table

from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.training.metrics import parameter_overview


def gather(options: argparse.Namespace) -> dict[str, Any]:
    """The steps kept, and one of them described."""
    folder, named = checkpoint_folder(options.folder)
    steps = kept_steps(folder)
    step = options.step if options.step is not None else named if named is not None else steps[-1]
    if step not in steps:
        raise UserError(f"{folder} has no checkpoint of step {step}: it has those of {', '.join(map(str, steps))}")
    path = folder / str(step)
    card = _card(path)
    shapes = _shapes(path / "params")
    tokenizer = load_tokenizer(path / "tokenizer")
    optimizer = jax.tree.leaves(_shapes(path / "optimizer")) if (path / "optimizer").is_dir() else []
    return {
        "folder": str(folder),
        "steps": steps,
        "step": step,
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(shapes)),
        "parameter_overview": parameter_overview(shapes),
        "shapes": {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in _named_leaves(shapes)},
        "optimizer_bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in optimizer),
        "tokenizer": {
            "kind": type(tokenizer).__name__,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
        },
        "card": card,
    }


def checkpoint_folder(folder: Path) -> tuple[Path, int | None]:
    """The folder of checkpoints, and the step where `folder` is one. UserError when there is none."""
    for candidate in (folder / "train" / "checkpoints", folder / "checkpoints", folder):
        if candidate.is_dir():
            break
    else:
        raise UserError(f"{folder} does not exist: give a run's folder, its checkpoints, or one step of them")
    if candidate.name.isdigit() and (candidate / "card").is_dir():
        return candidate.parent, int(candidate.name)
    return candidate, None


def kept_steps(folder: Path) -> list[int]:
    """Steps with a whole checkpoint, oldest first. Orbax gives a folder its final name when it is whole."""
    steps = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and (path / "card").is_dir())
    if not steps:
        raise UserError(f"{folder} holds no finished checkpoint: give a run that has saved one")
    return steps


def render(figures: Mapping[str, Any], console: Console) -> None:
    steps = ", ".join(f"{step:,}" for step in figures["steps"])
    console.print(f"{figures['folder']}/{figures['step']}", markup=False)
    table = Table(show_header=False)
    table.add_row("steps kept", steps)
    table.add_row("size", f"{figures['bytes'] / 1e6:,.1f} MB")
    table.add_row("parameters", f"{figures['parameters']:,}")
    moments = f"{figures['optimizer_bytes'] / 1e6:,.1f} MB" if figures["optimizer_bytes"] else "none: not to be resumed"
    table.add_row("optimizer", moments)
    tokenizer = figures["tokenizer"]
    table.add_row("tokenizer", f"{tokenizer['kind']}, {tokenizer['vocab_size']:,} ids, {tokenizer['fingerprint']}")
    for name, value in figures["card"].items():
        table.add_row(name.replace("_", " "), _text(value))
    console.print(table)
    console.print(figures["parameter_overview"], markup=False, soft_wrap=True)


def _text(value: Any) -> str:
    """Fields of a card one below the other; what is nested deeper is for programs (--json)."""
    if not isinstance(value, Mapping):
        return str(value)
    short = {name: f"of {len(each)}" if isinstance(each, Mapping) else json.dumps(each) for name, each in value.items()}
    return "\n".join(f"{name} {each}" for name, each in short.items())


def _card(path: Path) -> dict[str, Any]:
    try:
        (file,) = (each for each in (path / "card").iterdir() if each.name == "metadata")
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"the card of {path} cannot be read ({error}): copy that checkpoint anew") from error


def _shapes(path: Path) -> Any:
    """The stored arrays as jax.ShapeDtypeStruct."""
    try:
        tree = ocp.PyTreeCheckpointHandler().metadata(path).tree
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the arrays of {path} cannot be described ({reason}): copy that checkpoint anew") from error
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype), dict(tree))


def _named_leaves(tree: Any) -> Sequence[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
