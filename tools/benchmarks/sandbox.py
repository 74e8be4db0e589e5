"""What the sandbox adds to a Python program, with warm workers and without; and how many samples it scores a minute.

python -m tools.benchmarks.sandbox                            overhead, warm and cold in turns
python -m tools.benchmarks.sandbox --humanevalpack=FILE       the canonical solutions of python.jsonl, --samples times
"""

import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from demiurgic_jax.sandbox.programs import run_program, run_tests
from demiurgic_jax.sandbox.verdict import Limits
from demiurgic_jax.sandbox.workers import workers

CANDIDATE = "def double(x):\n    return x * 2\n"
TESTS = "assert double(2) == 4\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="turns of each contestant (default: %(default)s)")
    parser.add_argument("--humanevalpack", type=Path, help="python.jsonl of HumanEvalPack")
    parser.add_argument("--samples", type=int, default=1, help="samples of each problem (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: %(default)s)")
    options = parser.parse_args()
    if options.humanevalpack:
        rate(options.humanevalpack, options.samples, options.threads)
    else:
        overhead(options.rounds)
    return 0


def overhead(rounds: int) -> None:
    """A program that does nothing takes no time of its own: what it takes is the sandbox."""
    contestants = {
        "program": lambda limits: run_program("python", "pass", limits=limits),
        "candidate and tests": lambda limits: run_tests("python", CANDIDATE, TESTS, limits=limits),
    }
    times: dict[str, list[float]] = {}
    for turn in range(rounds):
        for name, run in contestants.items():
            # Other limits ask for other workers: the first run with them finds none that wait.
            limits = Limits(output_bytes=1_000_000 + turn)
            for state in ("cold", "warm"):
                began = time.perf_counter()
                assert run(limits).passed
                times.setdefault(f"{name}, {state}", []).append(1000 * (time.perf_counter() - began))
                time.sleep(0.5)  # the next worker is started meanwhile
            workers().close()
    for name, values in times.items():
        print(f"{name:28} median {statistics.median(values):7.1f} ms   least {min(values):7.1f} ms")


def rate(file: Path, samples: int, threads: int) -> None:
    rows = [json.loads(line) for line in file.read_text().splitlines()] * samples
    began, cpu = time.perf_counter(), os.times()
    with ThreadPoolExecutor(threads) as pool:
        verdicts = [
            *pool.map(lambda row: run_tests("python", row["prompt"] + row["canonical_solution"], row["test"]), rows)
        ]
    seconds = time.perf_counter() - began
    used = sum(os.times()[:4]) - sum(cpu[:4])
    print(f"{len(rows)} samples, {sum(each.passed for each in verdicts)} passed, {seconds:.1f} s")
    print(f"{1000 * seconds / len(rows):.1f} ms and {1000 * used / len(rows):.1f} ms of processor time each")
    print(f"164 × 20 samples at this rate: {3280 * seconds / len(rows) / 60:.1f} minutes")


if __name__ == "__main__":
    sys.exit(main())
