"""Several real processes of one run on this machine, and what became of them."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


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


def run_all(
    arguments: Sequence[str], environments: Sequence[Mapping[str, str]], *, timeout: float = 240
) -> list[Ended]:
    """Starts `python ARGUMENTS` once in each environment, all at the same time, and waits for all."""
    common = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=environment.get("CWD", ROOT),
            env=common | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments
    ]
    try:
        said = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [Ended(process.returncode, text) for process, text in zip(processes, said, strict=True)]
