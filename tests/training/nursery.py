"""Starts training processes quickly: what they import is imported once, here, and each is a fork of this process.

A line of JSON on stdin, [arguments, environment], starts one and waits for its end; its process id, then its exit
status (negative: the signal) come back on stdout.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import test_loop  # noqa: F401 (and with it JAX, whose backend no one has asked for yet: what follows may fork)

PROGRAM = Path(__file__).with_name("training_process.py")

for line in sys.stdin:
    arguments, environment = json.loads(line)
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        sys.argv = [str(PROGRAM), *arguments]
        try:
            runpy.run_path(str(PROGRAM), run_name="__main__")
        except SystemExit as end:
            os._exit(int(end.code or 0))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
