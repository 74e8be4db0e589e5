"""The command line of bubblewrap that isolates a program: no network, no home, little to write on."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from demiurgic_jax.sandbox.verdict import Limits

_SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/sandbox", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
_NOBODY = "65534"


class SandboxUnavailableError(RuntimeError):
    """Code was to be run where it cannot be isolated. Nothing was run."""


def python_prefix() -> str:
    """Folder of the running Python's installation, virtual environments left out."""
    return os.path.realpath(sys.base_prefix)


def python_program() -> str:
    """Path of that installation's interpreter."""
    named = Path(python_prefix(), "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return str(named) if named.exists() else os.path.realpath(sys.executable)


def isolated(command: list[str], limits: Limits, files: Mapping[str, int] | None = None) -> list[str]:
    """`command` wrapped in bubblewrap. `files` maps paths inside to descriptors whose content they get, read-only."""
    wrap = ["bwrap", "--unshare-all", "--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY, "--hostname", "sandbox"]
    wrap += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    for name, value in _ENVIRONMENT.items():
        wrap += ["--setenv", name, value]
    wrap += ["--ro-bind", "/usr", "/usr"]
    for folder in _SYSTEM_FOLDERS:
        if os.path.islink(folder):
            wrap += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            wrap += ["--ro-bind", folder, folder]
    wrap += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    if not python_prefix().startswith("/usr"):
        wrap += ["--ro-bind", python_prefix(), python_prefix()]
    wrap += ["--proc", "/proc", "--dev", "/dev"]
    for folder in (_ENVIRONMENT["HOME"], "/tmp", "/dev/shm"):
        wrap += ["--size", str(limits.file_bytes), "--tmpfs", folder]
    for path, descriptor in (files or {}).items():
        wrap += ["--ro-bind-data", str(descriptor), path]
    # The root and /dev are themselves tmpfs without a size: left writable, they would hold any amount of memory.
    wrap += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", _ENVIRONMENT["HOME"]]
    return [*wrap, "--", *command]


@functools.cache
def why_unavailable() -> str | None:
    """One clause on why nothing can be isolated here, or None where it can. Found by really trying, once."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (Debian and Ubuntu: apt install bubblewrap)"
    trial = isolated([python_program(), "-I", "-S", "-c", "print(6 * 7)"], Limits())
    try:
        done = subprocess.run(trial, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return "bubblewrap did not finish a trivial run within 30 seconds"
    if done.returncode != 0 or done.stdout.strip() != "42":
        return f"bubblewrap does not work here ({(done.stderr.strip() or 'no message').splitlines()[-1]})"
    return None


def bubblewrap_available() -> bool:
    """Whether untrusted code can be run here at all."""
    return why_unavailable() is None
