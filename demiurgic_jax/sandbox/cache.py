"""What is compiled once for many programs, and shown to them read-only."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(name: str, content: str, make: Callable[[Path, Path], None]) -> Path:
    """A folder that `make` has filled, given where to fill it and where it will then lie.

    It is kept under $DEMIURGIC_CACHE or ~/.cache/demiurgic. `content` is all that the result depends on. Processes
    that want it at once wait for the one that makes it.
    """
    root = Path(os.environ.get("DEMIURGIC_CACHE") or Path.home() / ".cache" / "demiurgic") / "sandbox"
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
            try:
                make(made, folder)
                made.chmod(0o755)
                made.rename(folder)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)
                raise
    return folder
