"""A faulty server and a client, each in a process of its own, and what both say afterwards."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENT = {"PYTHONPATH": ":".join(filter(None, sys.path))}


@contextlib.contextmanager
def storm_server(**options: Any) -> Iterator[str]:
    """The base URL of a storm_server.py with these options, up as long as the context lasts."""
    command = [sys.executable, HERE / "storm_server.py", json.dumps(options)]
    process = subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.communicate()


def counts(url: str) -> dict[str, Any]:
    """What the server saw and billed so far."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/counts") as response:
        return json.load(response)


def start_client(url: str, ledger: Path, **settings: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, HERE / "asking_process.py", url, ledger, json.dumps(settings)]
    return subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def run_client(url: str, ledger: Path, **settings: Any) -> dict[str, Any]:
    """What the client says when it has ended well."""
    process = start_client(url, ledger, **settings)
    said = process.communicate()[0]
    assert process.returncode == 0
    return json.loads(said)
