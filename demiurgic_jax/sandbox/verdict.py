"""What a sandboxed run may use, and what is said of it afterwards."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "timeout", "memory", "processes", "output"]


@dataclass(frozen=True)
class Limits:
    """Bounds of one run. `cpu_seconds` and `file_bytes` hold per process and per file; the rest, for the whole run."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 8
    memory_bytes: int = 1 << 30  # address space of each process, and resident memory of all of them together
    processes: int = 64  # threads count too
    file_bytes: int = 16 << 20  # also the size of each writable folder
    output_bytes: int = 1 << 20  # stdout and stderr together


@dataclass(frozen=True)
class Verdict:
    """How a run ended, decided outside of it.

    `failed` is any end of the program's own making that is not success; the other statuses name the limit that
    ended it. `exit_code` is None where the run was killed from outside.
    """

    status: Status
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.status == "passed"
