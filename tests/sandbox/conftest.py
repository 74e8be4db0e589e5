import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demiurgic_jax.sandbox.contained import Contained
from demiurgic_jax.sandbox.resources import ProcessTree
from demiurgic_jax.sandbox.toolchains import why_missing
from demiurgic_jax.sandbox.verdict import Language
from demiurgic_jax.sandbox.workers import workers
from tests.sandbox.host import Host, Namespaces


def here(languages: Iterable[Language]) -> list[Any]:
    """Parameters of a test: those without a toolchain here are skipped, with the reason."""
    return [
        pytest.param(each, marks=[pytest.mark.skip(reason=str(why_missing(each)))] * (why_missing(each) is not None))
        for each in languages
    ]


@pytest.fixture
def namespaces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespaces]:
    """Afterwards nothing lives in a process namespace that was made, and no process descends from this one that did
    not before (another test's server may), once the workers that wait for a job are let go."""
    workers().close()
    before = _descendants()
    watch = Namespaces()
    monkeypatch.setattr(Contained, "give", watch.watching(Contained.give))
    yield watch
    workers().close()
    assert watch.seen
    assert watch.survivors() == []
    deadline = time.monotonic() + 10
    while _descendants() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _descendants() - before == set()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    folder = tmp_path / "host"
    folder.mkdir()
    made = Host(folder, Path.home())
    yield made
    made.close()


def _descendants() -> set[int]:
    return set(ProcessTree(os.getpid()).members()[1:])
