"""Fetches source code from package registries, to try the corpus pipeline on something real.

    python -m tools.gather_corpus --into=~/corpus_raw

Debian packages that hold sources (Go, Rust, C++ headers, the JDK's own), Debian source packages (Java, C++), Python
wheels and npm packages are fetched by their ordinary clients (`apt-get download`, `apt-get source`, `pip download`,
`npm pack`), and what a corpus is made of, code and licences, is unpacked: one folder a package, with `copyright` where
Debian says the licence. About 1 GB comes over the network, 2 to 3 GB are unpacked. What is there is not fetched again;
a package that cannot be had is named and passed over. Lists: tools/gather_packages.json, or your own with
--packages=FILE (keys as there).

Each package has its own licence, which the pipeline reads; the code is for you to train on, not to pass on.
"""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, cast

from absl import app, flags

from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.curation.licence_files import says_licence
from demiurgic_jax.curation.recognition import language_by_name
from demiurgic_jax.errors import UserError

_INTO = flags.DEFINE_string("into", None, "Folder that is filled: one folder a package.")
_PACKAGES = flags.DEFINE_string(
    "packages", str(Path(__file__).with_name("gather_packages.json")), "JSON: kind of package to names."
)
_KINDS = ("debian", "debian-source", "python", "npm")
# Packages that one call of a client fetches: a client takes seconds to start.
_AT_ONCE = 25
_LANGUAGES = {*LANGUAGES, "c"}
_MOST_BYTES = 20 << 20
# Paths and contents of the files of an archive.
_Members = Iterator[tuple[str, Callable[[], bytes]]]


def main(argv: Sequence[str]) -> None:
    del argv
    if not _INTO.value:
        raise UserError("--into is missing: name the folder to fill, outside of the repository")
    into = Path(_INTO.value).expanduser()
    packages = json.loads(Path(_PACKAGES.value).read_text())
    if unknown := set(packages) - set(_KINDS):
        raise UserError(f"{_PACKAGES.value} has kind {min(unknown)!r}: choose among {', '.join(_KINDS)}")
    for kind, names in packages.items():
        wanted = [name for name in names if not _target(into, kind, name).exists()]
        for start in range(0, len(wanted), _AT_ONCE):
            _gather(into, kind, wanted[start : start + _AT_ONCE])


def _target(into: Path, kind: str, name: str) -> Path:
    return into / f"{kind}-{name.replace('/', '-').replace('@', '')}"


def _gather(into: Path, kind: str, names: list[str]) -> None:
    fetched = into / ".fetched" / kind
    fetched.mkdir(parents=True, exist_ok=True)
    _fetch(kind, [name for name in names if not _archives(fetched, kind, name)], fetched)
    for name in names:
        archives = _archives(fetched, kind, name)
        if not archives:
            print(f"{kind} {name}: not to be had", flush=True)
            continue
        target = _target(into, kind, name)
        unfinished = target.with_name(f".{target.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        size = sum(_keep(path, read, unfinished) for archive in archives for path, read in _members(archive))
        unfinished.rename(target)
        for archive in archives:
            archive.unlink()
        print(f"{kind} {name}: {size / 1e6:.1f} MB", flush=True)


def _fetch(kind: str, names: list[str], folder: Path) -> None:
    """All of them at once; where that fails, each by itself."""
    if not names:
        return
    try:
        subprocess.run(_command(kind, names, folder), cwd=folder, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        if len(names) == 1:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            print(f"{kind} {names[0]}: {said[-1] if said else error}", flush=True)
        else:
            for name in names:
                _fetch(kind, [name], folder)


def _command(kind: str, names: list[str], folder: Path) -> list[str]:
    if kind == "debian":
        return ["apt-get", "download", "-q", *names]
    if kind == "debian-source":
        return ["apt-get", *_source_lists(folder), "source", "-q", "--download-only", *names]
    if kind == "python":
        return [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *names]
    return ["npm", "pack", "--silent", "--ignore-scripts", *names]


def _archives(folder: Path, kind: str, name: str) -> list[Path]:
    """The fetched files of a package, by how each client calls them."""
    if kind == "debian":
        return sorted(folder.glob(f"{name}_*.deb"))
    if kind == "debian-source":
        return sorted(path for path in folder.glob(f"{name}_*.tar.*") if not path.name.endswith(".asc"))
    if kind == "python":
        stem = name.replace("-", "_").lower()
        return sorted(path for path in folder.glob("*.whl") if path.name.lower().startswith(f"{stem}-"))
    stem = name.lstrip("@").replace("/", "-")
    return sorted(path for path in folder.glob(f"{stem}-*.tgz") if path.name[len(stem) + 1].isdigit())


def _source_lists(folder: Path) -> list[str]:
    """Options under which apt knows source packages, in lists of its own beside `folder`."""
    lists = folder.parent / "apt"
    options = ["-o", f"Dir::State::lists={lists / 'lists'}", "-o", f"Dir::Etc::sourceparts={lists / 'sources'}"]
    options += ["-o", "Dir::Etc::sourcelist=/dev/null"]
    if not (lists / "ready").exists():
        (lists / "sources").mkdir(parents=True, exist_ok=True)
        (lists / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        for known in Path("/etc/apt/sources.list.d").glob("debian*.sources"):
            text = known.read_text().replace("Types: deb\n", "Types: deb-src\n")
            (lists / "sources" / known.name).write_text(text)
        subprocess.run(["apt-get", *options, "update"], check=True, capture_output=True)
        (lists / "ready").touch()
    return options


def _members(archive: Path) -> _Members:
    if archive.suffix == ".deb":
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                yield from _of_tar(tar)
    elif zipfile.is_zipfile(archive):
        yield from _of_zip(archive)
    else:
        with tarfile.open(archive, "r|*") as tar:
            yield from _of_tar(tar)


def _of_tar(tar: tarfile.TarFile) -> _Members:
    for member in tar:
        zipped = member.name.endswith(("/src.zip", "-sources.jar"))  # sources of the JDK, and of other Java
        if not member.isfile() or (member.size > _MOST_BYTES and not zipped):
            continue
        file = cast(IO[bytes], tar.extractfile(member))
        if zipped:
            yield from _of_zip(io.BytesIO(file.read()))
        else:
            yield member.name, file.read


def _of_zip(where: Path | IO[bytes]) -> _Members:
    with zipfile.ZipFile(where) as zipped:
        for entry in zipped.infolist():
            if not entry.is_dir() and entry.file_size <= _MOST_BYTES:
                yield entry.filename, lambda entry=entry: zipped.read(entry)  # type: ignore[misc]


def _keep(name: str, read: Callable[[], bytes], into: Path) -> int:
    """Writes a file below `into` where it is code or says a licence; its bytes."""
    plain = PurePosixPath(name.removeprefix("./"))
    if plain.is_absolute() or ".." in plain.parts:
        return 0
    if plain.name == "copyright" and ("doc" in plain.parts or "debian" in plain.parts):
        target = into / "copyright"  # of the whole package
    elif plain.parts[0].endswith(".dist-info") and says_licence(plain.name):
        target = into / plain.name  # of a wheel
    elif language_by_name(name) in _LANGUAGES or says_licence(plain.name):
        target = into / plain
    else:
        return 0
    content = read()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return len(content)


if __name__ == "__main__":
    app.run(main)
