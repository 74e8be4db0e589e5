"""How processes of one run watch each other, and what is left of it when they part."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from process_group import Process, by_hand, free_port, run_all

WATCHING = """
import sys, threading, time
from demiurgic_jax.sharding import messages
from demiurgic_jax.sharding.processes import start_processes

messages.POLL_SECONDS = 0.0005  # it is nearly always in the middle of a question
start_processes("watch", 60)
with messages.ended_with_others(print):
    time.sleep(0.3)
print(*(thread.name for thread in threading.enumerate()), file=sys.stderr)
"""


def test_nothing_watches_a_process_that_ends(tmp_path):
    """A native thread at work while the interpreter goes aborts it: a finished run would seem to have failed."""
    script = tmp_path / "watching.py"
    script.write_text(WATCHING)
    for _ in range(2):
        port = free_port()
        ended = run_all(*(Process([str(script)], by_hand(2, index, port)) for index in (0, 1)))
        assert [(each.status, each.said.splitlines()[-1]) for each in ended] == [(0, "MainThread")] * 2
