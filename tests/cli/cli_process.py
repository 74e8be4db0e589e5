"""The command as a process of its own."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "demiurgic_jax.cli.main"]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would choose a model or a look, with a home that holds nothing, and with
    the package importable."""
    ours = ("DEMIURGIC_", "XDG_", "NO_COLOR")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return clean | {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "TERM": "xterm-256color"} | more
