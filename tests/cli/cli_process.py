"""The command as a process of its own."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "demiurgic_jax.cli.main"]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would choose a model, and with the package importable."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DEMIURGIC_")}
    return clean | {"PYTHONPATH": str(ROOT)} | more
