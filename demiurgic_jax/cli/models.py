"""`demiurgic models`: what a server serves, or the checkpoints of the runs here."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

from demiurgic_jax.cli.answering import write, write_json
from demiurgic_jax.cli.settings import Resolved
from demiurgic_jax.cli.source import api_key, base_url, checkpoint_folders, model_name
from demiurgic_jax.cli.terminal import note
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.client import list_models


def print_models(options: argparse.Namespace, settings: Mapping[str, Resolved]) -> int:
    """One line for each model: a server's where there is a URL, else the newest step of every run under runs/."""
    if url := settings["url"].value:
        for model in list_models(base_url(url), api_key=api_key(settings)):
            write_json(model) if options.json else write(f"{model['id']}\n")
        return 0
    given = settings["checkpoint"].value
    folders = [Path(given)] if given else checkpoint_folders(Path("runs"))
    if not folders:
        raise UserError("there is no server and no runs/NAME/train/checkpoints here: give --url or --checkpoint")
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} does not exist: give a folder of checkpoints")
        steps = sorted(int(step.name) for step in folder.iterdir() if step.name.isdigit())
        if not steps and given:
            raise UserError(f"{folder} holds no checkpoint: give a run's train/checkpoints")
        saved = (folder / str(steps[-1])).stat().st_mtime
        if options.json:
            write_json({"id": model_name(folder), "checkpoint": str(folder), "steps": steps, "saved": saved})
        else:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(saved))
            write(f"{model_name(folder):24} step {steps[-1]:<8} {when}  {folder}\n")
    if not options.json:
        note("demiurgic serve --checkpoint DIR serves one of them")
    return 0
