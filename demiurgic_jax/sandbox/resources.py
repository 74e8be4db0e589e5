"""What a process and all that came of it use, counted from outside through /proc."""

import os
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class ProcessTree:
    """A running process and its descendants. Times are seconds."""

    root: int
    cpu: float = 0.0
    resident: int = 0
    tasks: int = 0
    active: bool = False  # some task wants the processor or waits for the disk
    _own: dict[tuple[int, bytes], float] = field(default_factory=dict)

    def look(self) -> None:
        """Counts again. The CPU time of ended processes stays in: from their parent, or from the last look at them."""
        self.resident = self.tasks = 0
        self.active = False
        with_collected = 0.0
        for pid in self.members():
            try:
                stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended between being listed and being looked at
            # proc(5): state is field 3, so utime, stime and those of collected children are 11 to 14 here.
            user, system, *collected = map(int, stat[11:15])
            self._own[pid, stat[19]] = (user + system) / _TICKS  # numbers come again; with its start it is one process
            with_collected += (user + system + sum(collected)) / _TICKS
            self.tasks += int(stat[17])
            self.resident += int(stat[21]) * _PAGE_BYTES
            self.active |= stat[0] in (b"R", b"D") or (int(stat[17]) > 1 and self._thread_active(pid))
        # Both are too low at times: a parent may refuse its children's times, and a child may live between two looks.
        self.cpu = max(self.cpu, with_collected, sum(self._own.values()))

    def exclusive_memory(self) -> int:
        """Bytes, pages that several processes share counted once; resident pages where that cannot be read."""
        total = 0
        for pid in self.members():
            try:
                for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
                    if line.startswith(b"Pss:"):
                        total += int(line.split()[1]) * 1024
            except (FileNotFoundError, ProcessLookupError):
                continue
            except PermissionError:
                return self.resident
        return total

    def members(self) -> list[int]:
        found, waiting = [self.root], [self.root]
        while waiting:
            parent = waiting.pop()
            try:
                for thread in os.listdir(f"/proc/{parent}/task"):
                    children = [*map(int, Path(f"/proc/{parent}/task/{thread}/children").read_bytes().split())]
                    waiting += children
                    found += children
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    @staticmethod
    def _thread_active(pid: int) -> bool:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                stat = Path(f"/proc/{pid}/task/{thread}/stat").read_bytes().rpartition(b")")[2].split()
                if stat[0] in (b"R", b"D"):
                    return True
        except (FileNotFoundError, ProcessLookupError):
            pass
        return False
