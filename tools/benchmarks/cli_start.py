"""How long the `demiurgic` command takes to start: until its help, and until a server's answer is printed.

    python -m tools.benchmarks.cli_start
    python -m tools.benchmarks.cli_start --imports      which modules the time goes to

The server is a socket in this process that answers at once, so that what is measured is the command. Beside it runs an
empty Python, which is the least there can be, and one that imports httpx. They take turns; medians are printed, of the
time on the clock and of the processor's time, which a busy machine changes less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENTS = (
    {"choices": [{"index": 0, "text": "done"}]},
    {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
)
COMMAND = ("-m", "demiurgic_jax.cli.main")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default: %(default)s)")
    parser.add_argument("--imports", action="store_true", help="list the modules that take longest, and stop")
    options = parser.parse_args()
    with answering() as url:
        ask = (*COMMAND, "complete", "x", "--model", "m", "--url", url)
        if options.imports:
            list_imports(ask)
            return 0
        contestants = {
            "python -c pass": ("-c", "pass"),
            "python -c 'import httpx'": ("-c", "import httpx"),
            "demiurgic __complete (TAB)": (*COMMAND, "__complete", "fish", ""),
            "demiurgic --help": (*COMMAND, "--help"),
            "demiurgic complete --url": ask,
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name, arguments in contestants.items():
                times[name].append(timed(arguments))
    for name, measured in times.items():
        wall, processor = (1000 * statistics.median(each) for each in zip(*measured, strict=True))
        print(f"{name:28} {wall:6.0f} ms on the clock, {processor:6.0f} ms of the processor")
    return 0


def timed(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Seconds on the clock and of the processor that a Python process with these arguments takes."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime


def list_imports(arguments: tuple[str, ...]) -> None:
    """The modules with the longest time of their own, in milliseconds."""
    run = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    rows = []
    for line in run.stderr.splitlines():
        microseconds, _, name = line.removeprefix("import time:").split("|")
        if microseconds.strip().isdigit():
            rows.append((int(microseconds) / 1000, name.strip()))
    print(f"{sum(own for own, _ in rows):8.1f} ms in {len(rows)} modules")
    for own, name in sorted(rows, reverse=True)[:25]:
        print(f"{own:8.1f} {name}")


@contextmanager
def answering() -> Iterator[str]:
    """A server whose every answer is one word."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write("".join(f"data: {json.dumps(event)}\n\n" for event in EVENTS).encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    sys.exit(main())
