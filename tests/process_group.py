"""Several real processes of one run on this machine, and what became of them."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Process:
    """`python ARGUMENTS`, started in `folder` with `environment` on top of this process's own."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT


@dataclass(frozen=True)
class Ended:
    status: int
    said: str


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def by_hand(count: int, index: int, port: int) -> dict[str, str]:
    """The variables that make a process number `index` of `count`."""
    return {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(index),
    }


def run_all(*processes: Process, timeout: float = 240) -> list[Ended]:
    """Starts all at the same time and waits for all."""
    common = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [sys.executable, *process.arguments],
            cwd=process.folder,
            env=common | process.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in processes
    ]
    try:
        said = [each.communicate(timeout=timeout)[1] for each in started]
    finally:
        for each in started:
            each.kill()
    return [Ended(each.returncode, text) for each, text in zip(started, said, strict=True)]
