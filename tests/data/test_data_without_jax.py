import subprocess
import sys
from pathlib import Path

import demiurgic_jax.data


def test_no_module_of_the_room_imports_jax():
    """Distillation and evaluation read and write data on machines without it."""
    folder = Path(demiurgic_jax.data.__file__).parent
    modules = ", ".join(f"demiurgic_jax.data.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__")
    program = f"import {modules}, sys; print(sorted({{'jax', 'tensorflow', 'torch'}} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert run.stdout.strip() == "[]"
