"""What a sandboxed run may use, and what is said of it afterwards."""

from dataclasses import dataclass
from typing import Literal

Language = Literal["python", "javascript", "typescript", "go", "rust", "java", "cpp"]
Status = Literal["passed", "failed", "compile error", "timeout", "memory", "processes", "output", "not run"]


@dataclass(frozen=True)
class Limits:
    """Bounds of one run. Where tests run beside a candidate, each of the two has them for itself.

    `cpu_seconds` are those of a reference machine and are scaled by this machine's speed (see sandbox/speed.py); they
    count every process of the run, ended ones too. `idle_seconds` is the time that a run may spend with no process
    wanting the processor; `wall_seconds` only catches what the two miss, so that no verdict hangs on the load.
    """

    cpu_seconds: float = 8.0
    idle_seconds: float = 5.0
    wall_seconds: float = 120.0
    memory_bytes: int = 1 << 30  # resident memory of all processes, and where the language allows it address space
    processes: int = 64  # threads count too
    file_bytes: int = 16 << 20  # of one file
    disk_bytes: int = 32 << 20  # of all files
    output_bytes: int = 1 << 20  # stdout and stderr together


@dataclass(frozen=True)
class Verdict:
    """How a run ended, decided outside of it.

    `failed` is any end of the program's own making that is not success; `compile error` is one before it was run;
    `not run` means that the language's toolchain is not here, and says nothing of the program; the other statuses name
    the limit that ended it. `exit_code` is None where the run was killed from outside. `reason` is one line for people.
    """

    status: Status
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float = 0.0
    reason: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"
