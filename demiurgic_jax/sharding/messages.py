"""Short messages between the processes of a run, and how one that fails ends them all.

They go through the key-value store of JAX's coordinator, which process 0 holds. A barrier of devices would not do: a
process may wait for hours while another asks a teacher, and one that stops must be able to say why.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax._src import distributed

POLL_SECONDS = 0.3
LEAVING_SECONDS = 10.0
FAILURE, LEAVING = "failure", "leaving"

_leaving = threading.Lock()


def tell(topic: str, message: str) -> None:
    """For the other processes to `hear`; once a topic. Nothing happens in a process on its own."""
    if jax.distributed.is_initialized():
        _store().key_value_set(f"demiurgic/{topic}/{jax.process_index()}", message, allow_overwrite=True)


def hear(topic: str) -> str:
    """What was told about `topic`; waits for it."""
    while not (found := told(topic)):
        time.sleep(POLL_SECONDS)
    return next(iter(found.values()))


def told(topic: str) -> dict[int, str]:
    """What was told about `topic` until now, by the number of the process."""
    found = _store().key_value_dir_get(f"demiurgic/{topic}")
    return {int(key.rpartition("/")[2]): message for key, message in found}


def _store() -> Any:
    # JAX has no public name for it. One that was disconnected is None.
    return distributed.global_state.client


def end_all(status: int, reason: str) -> None:
    """Ends all processes of this run with `status`; the others say `reason`. Returns only when there are no others."""
    if jax.distributed.is_initialized():
        tell(FAILURE, json.dumps([status, reason]))
        _leave(status)


@contextmanager
def ended_with_others(say: Callable[[str], None]) -> Iterator[None]:
    """Within it this process ends when another calls `end_all`, whatever it is doing, and says its reason."""
    if not jax.distributed.is_initialized():
        yield
        return
    over = threading.Event()

    def watch() -> None:
        own = jax.process_index()
        while not over.wait(POLL_SECONDS):
            try:
                failures = [(index, message) for index, message in told(FAILURE).items() if index != own]
            except (jax.errors.JaxRuntimeError, AttributeError):
                return  # disconnected: the run is over
            if failures:
                index, message = failures[0]
                status, reason = json.loads(message)
                say(f"process {index}: {reason}")
                _leave(status)

    thread = threading.Thread(target=watch, name="ended-with-others", daemon=True)
    thread.start()
    try:
        yield
    finally:
        # A thread that comes back from the coordinator while the interpreter is being taken down aborts the process
        # (Python before 3.14), and a finished run would end as a failed one.
        over.set()
        thread.join(LEAVING_SECONDS)


def _leave(status: int) -> None:
    """Ends this process at once: its threads may be waiting for processes that will not come.

    Not before all know, though: a connection that breaks earlier would be taken for the failure.
    """
    _leaving.acquire()  # for good: the first reason counts, and what breaks from now on is its consequence
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    tell(LEAVING, "")
    deadline = time.monotonic() + LEAVING_SECONDS
    while len(told(LEAVING)) < jax.process_count() and time.monotonic() < deadline:
        time.sleep(0.05)
    if jax.process_index() == 0:
        time.sleep(2 * POLL_SECONDS)  # the store goes with this process, so it is the last
    os._exit(status)
