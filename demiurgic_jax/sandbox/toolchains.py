"""The seven languages: what runs them, where it is on this machine, and what is missing."""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from demiurgic_jax.sandbox.bubblewrap import python_prefix, python_program
from demiurgic_jax.sandbox.verdict import Language

LANGUAGES: tuple[Language, ...] = get_args(Language)
_CONFIGURATION = "/etc/java-{version}-openjdk"  # Debian's Java links to it
_NODE_THAT_STRIPS_TYPES = (22, 13)


@dataclass(frozen=True)
class Toolchain:
    """`programs` by name, as absolute paths; `folders` are what a sandbox must show, read-only, for them to work."""

    programs: dict[str, str]
    folders: tuple[str, ...]
    version: str
    environment: dict[str, str] = field(default_factory=dict)


class MissingToolchainError(Exception):
    """One clause on what is missing, and what to install."""


def toolchains() -> dict[Language, str | None]:
    """For every language None where it can be run here, else why not. Isolation is another question: see
    bubblewrap.why_unavailable."""
    return {language: why_missing(language) for language in LANGUAGES}


def why_missing(language: Language) -> str | None:
    try:
        toolchain(language)
    except MissingToolchainError as error:
        return str(error)
    return None


def toolchain(language: Language) -> Toolchain:
    """Raises MissingToolchainError."""
    found = _found(language)
    if isinstance(found, str):
        raise MissingToolchainError(found)
    return found


@functools.cache
def _found(language: Language) -> Toolchain | str:
    try:
        return _FIND[language]()
    except MissingToolchainError as error:
        return str(error)


def _program(name: str, install: str) -> str:
    """The program itself, past links and past shims that look at the user's home."""
    found = shutil.which(name)
    if found is None:
        raise MissingToolchainError(f"{name} is not installed ({install})")
    return os.path.realpath(found)


def _says(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingToolchainError(f"{command[0]} does not run ({error})") from None
    if done.returncode != 0:
        message = (done.stderr.strip() or "no message").splitlines()[-1]
        raise MissingToolchainError(f"{' '.join(command)} fails ({message})")
    return done.stdout.strip()


def _python() -> Toolchain:
    return Toolchain({"python": python_program()}, (python_prefix(),), os.path.basename(python_program()))


def _cpp() -> Toolchain:
    compiler = _program("g++", "Debian and Ubuntu: apt install g++")
    linked = {"g++": compiler, "gcc": _program("gcc", "Debian and Ubuntu: apt install gcc")}
    return Toolchain(linked, _installation(compiler), _says(compiler, "-dumpfullversion"))


def _node() -> Toolchain:
    node = _program("node", "Debian and Ubuntu: apt install nodejs")
    return Toolchain({"node": node}, _installation(node), _says(node, "--version"))


def _typescript() -> Toolchain:
    """Node takes types away by itself from 22.13 on; older ones need the compiler's package to do it."""
    node = _node()
    version = tuple(map(int, re.findall(r"\d+", node.version)[:2]))
    if version >= _NODE_THAT_STRIPS_TYPES:
        return node
    prefix = Path(node.programs["node"]).parents[1]
    library = prefix / "lib" / "node_modules" / "typescript" / "lib" / "typescript.js"
    if not library.exists():
        raise MissingToolchainError(
            f"node {node.version} does not read TypeScript (install node 22.13, or: npm install -g typescript@5)"
        )
    return Toolchain({**node.programs, "typescript": str(library)}, (*node.folders, str(library.parents[1])), "5")


def _go() -> Toolchain:
    go = _program("go", "Debian and Ubuntu: apt install golang-go")
    root, tools = _says(go, "env", "GOROOT"), _says(go, "env", "GOTOOLDIR")
    programs = {"go": go, "compile": os.path.join(tools, "compile"), "link": os.path.join(tools, "link")}
    for name, path in programs.items():
        if not os.path.exists(path):
            raise MissingToolchainError(f"go's {name} is not at {path} (install the whole of Go)")
    return Toolchain(programs, (root, os.path.realpath(root)), _says(go, "env", "GOVERSION"))


def _rust() -> Toolchain:
    named = shutil.which("rustc")
    if named is None:
        raise MissingToolchainError("rustc is not installed (https://rustup.rs, or apt install rustc)")
    # What is in the path may be rustup's, which needs the home folder; the compiler itself lies in the system root.
    root = _says(named, "--print", "sysroot")
    rustc = os.path.join(root, "bin", "rustc")
    linker = _program("gcc", "rustc links with it; Debian and Ubuntu: apt install gcc")
    return Toolchain({"rustc": rustc, "gcc": linker}, (root,), _says(rustc, "--version"))


def _java() -> Toolchain:
    compiler = _program("javac", "Debian and Ubuntu: apt install default-jdk-headless")
    home = os.path.dirname(os.path.dirname(compiler))
    version = _says(compiler, "--version").split()[-1]
    configuration = _CONFIGURATION.format(version=version.partition(".")[0])
    folders = (home, configuration) if os.path.isdir(configuration) else (home,)
    return Toolchain({"javac": compiler, "java": os.path.join(home, "bin", "java")}, folders, version)


def _installation(program: str) -> tuple[str, ...]:
    """The folder to show for a program that is not under /usr: the one above its bin."""
    return () if program.startswith("/usr/") else (os.path.dirname(os.path.dirname(program)),)


_FIND: dict[Language, Callable[[], Toolchain]] = {
    "python": _python,
    "javascript": _node,
    "typescript": _typescript,
    "go": _go,
    "rust": _rust,
    "java": _java,
    "cpp": _cpp,
}
