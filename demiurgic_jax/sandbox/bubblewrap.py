"""The command line of bubblewrap that isolates a program: no network, no home, little to write on."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from demiurgic_jax.sandbox.seccomp import seccomp_filter
from demiurgic_jax.sandbox.verdict import Limits

HOME = "/tmp"
_SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_LIBRARIES = ("/etc/ld.so.cache", "/etc/alternatives")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": HOME, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
_NOBODY = "65534"
_SHARED_MEMORY_PART = 8  # of the writable bytes, one in so many is at /dev/shm


class SandboxUnavailableError(RuntimeError):
    """Code was to be run where it cannot be isolated. Nothing was run."""


def python_prefix() -> str:
    """Folder of the running Python's installation, virtual environments left out."""
    return os.path.realpath(sys.base_prefix)


def python_program() -> str:
    """Path of that installation's interpreter."""
    named = os.path.join(python_prefix(), "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return named if os.path.exists(named) else os.path.realpath(sys.executable)


def isolated(
    command: Sequence[str],
    limits: Limits,
    *,
    readable: Sequence[str] = (),
    writable: Sequence[str] = (),
    seccomp: int | None = None,
) -> list[str]:
    """`command` wrapped in bubblewrap.

    `readable` and `writable` are paths outside that are seen inside under the same name. `seccomp` is a descriptor
    that holds the filter.
    """
    wrap = ["bwrap", "--unshare-all", "--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY]
    wrap += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        wrap += ["--setenv", name, value]
    wrap += ["--ro-bind", "/usr", "/usr"]
    for folder in _SYSTEM_FOLDERS:
        if os.path.islink(folder):
            wrap += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            wrap += ["--ro-bind", folder, folder]
    for path in _LIBRARIES:
        wrap += ["--ro-bind-try", path, path]
    wrap += ["--proc", "/proc", "--dev", "/dev"]
    shared = max(1, limits.disk_bytes // _SHARED_MEMORY_PART)
    wrap += ["--size", str(shared), "--tmpfs", "/dev/shm"]
    wrap += ["--size", str(max(1, limits.disk_bytes - shared)), "--tmpfs", HOME]
    for path in readable:
        if not path.startswith("/usr/"):
            wrap += ["--ro-bind", path, path]
    for path in writable:
        wrap += ["--bind", path, path]
    # The root and /dev are themselves tmpfs without a size: left writable, they would hold any amount of memory. In
    # /proc lie the kernel's settings, which whoever is root outside may write whatever rights were dropped.
    wrap += ["--remount-ro", "/dev", "--remount-ro", "/proc", "--remount-ro", "/", "--chdir", HOME]
    if seccomp is not None:
        wrap += ["--seccomp", str(seccomp)]
    return [*wrap, "--", *command]


def filter_descriptor() -> int | None:
    """A new descriptor that holds the seccomp filter, to be closed by the caller; None where there is no filter."""
    program = seccomp_filter()
    if program is None:
        return None
    descriptor = os.memfd_create("seccomp")
    os.write(descriptor, program)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@functools.cache
def why_unavailable() -> str | None:
    """One clause on why nothing can be isolated here, or None where it can. Found by really trying, once."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (Debian and Ubuntu: apt install bubblewrap)"
    if shutil.which("prlimit") is None:
        return "prlimit is not installed (Debian and Ubuntu: apt install util-linux)"
    seccomp = filter_descriptor()
    command = [python_program(), "-I", "-S", "-c", "print(6 * 7)"]
    trial = isolated(command, Limits(), readable=[python_prefix()], seccomp=seccomp)
    try:
        done = subprocess.run(
            trial,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            pass_fds=[] if seccomp is None else [seccomp],
        )
    except subprocess.TimeoutExpired:
        return "bubblewrap did not finish a trivial run within 60 seconds"
    finally:
        if seccomp is not None:
            os.close(seccomp)
    if done.returncode != 0 or done.stdout.strip() != "42":
        return f"bubblewrap does not work here ({(done.stderr.strip() or 'no message').splitlines()[-1]})"
    return None


def bubblewrap_available() -> bool:
    """Whether untrusted code can be run here at all."""
    return why_unavailable() is None
