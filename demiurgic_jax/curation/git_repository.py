"""Files of a git repository at one commit, read from its objects by the `git` program; no work tree is touched."""

import hashlib
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demiurgic_jax.errors import UserError

_LINK, _SUBMODULE = "120000", "160000"


@dataclass(frozen=True)
class GitRepository:
    """A clone and the commit (40 hex digits) that is read."""

    clone: Path
    commit: str

    @classmethod
    def open(cls, where: str, commit: str, clones: Path | None) -> "GitRepository":
        """A clone on this machine, or one made of the address `where` in the folder `clones` (once; fetched again when
        it lacks the commit). Raises UserError where there is no git, no repository or no such commit."""
        if shutil.which("git") is None:
            raise UserError(f"source {where} is a git repository and there is no git program: install git")
        local = Path(where.removeprefix("file://")).expanduser()
        if local.is_dir():
            return cls(local, _commit(local, commit or "HEAD", where))
        if "://" not in where and "@" not in where:
            raise UserError(f"source {where} is no git repository: give a clone's folder or an address")
        if not commit:
            raise UserError(f"source {where} has no commit: give one, so that the same code is read for ever")
        if clones is None:
            raise UserError(f"source {where} is an address and there is no folder to clone it into")
        clone = clones / hashlib.sha256(where.encode()).hexdigest()[:16]
        if not clone.exists():
            unfinished = clone.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            _git(None, where, "clone", "--quiet", "--bare", "--", where, str(unfinished))
            unfinished.rename(clone)
        elif subprocess.run(
            ["git", "-C", clone, "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True
        ).returncode:
            _git(clone, where, "fetch", "--quiet", "origin", "+refs/*:refs/*")
        return cls(clone, _commit(clone, commit, where))

    def files(self, counts: Counter[str]) -> dict[str, tuple[int, str]]:
        """Path to size in bytes and name of the object; links and submodules are counted and left out."""
        listed = _git(self.clone, str(self.clone), "ls-tree", "-r", "-z", "--long", "--full-tree", self.commit)
        found = {}
        for entry in listed.split(b"\0")[:-1]:
            head, _, path = entry.partition(b"\t")
            mode, _, name, size = head.decode().split()
            if mode in (_LINK, _SUBMODULE):
                counts["link" if mode == _LINK else "submodule"] += 1
            else:
                found[path.decode("utf-8", "replace")] = (int(size), name)
        return found

    @contextmanager
    def reading(self) -> Iterator[Callable[[str], bytes]]:
        """A function that gives the bytes of an object."""
        process = subprocess.Popen(
            ["git", "-C", self.clone, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def read(name: str) -> bytes:
            requests.write(f"{name}\n".encode())
            requests.flush()
            head = answers.readline().split()
            if len(head) != 3:
                raise UserError(f"{self.clone} has lost the object {name} of {self.commit}: clone it again")
            content = answers.read(int(head[2]))
            answers.read(1)
            return content

        try:
            yield read
        finally:
            requests.close()
            answers.close()
            process.wait()


def _commit(clone: Path, name: str, where: str) -> str:
    return _git(clone, where, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()


def _git(clone: Path | None, where: str, *arguments: str) -> bytes:
    command = ["git", *(("-C", str(clone)) if clone else ()), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"git {arguments[0]} found nothing"
        raise UserError(f"source {where} cannot be read ({reason}): check the repository and its commit")
    return done.stdout
