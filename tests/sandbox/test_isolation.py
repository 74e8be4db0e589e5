"""What a program in the sandbox cannot reach, and cannot use up."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from demiurgic_jax.sandbox.bubblewrap import SandboxUnavailableError, why_unavailable
from demiurgic_jax.sandbox.programs import run_program
from demiurgic_jax.sandbox.verdict import Limits, Verdict

needs_bubblewrap = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
SMALL = Limits(
    wall_seconds=60, idle_seconds=2, cpu_seconds=1, memory_bytes=256 << 20, processes=20, output_bytes=10_000
)


def run_python(program: str, stdin: str = "", limits: Limits | None = None) -> Verdict:
    return run_program("python", program, stdin=stdin, limits=limits)


@needs_bubblewrap
def test_a_program_reads_its_input_and_its_output_comes_back():
    verdict = run_python("import sys; print(sys.stdin.read() * 2); print('é', file=sys.stderr)", stdin="xy")
    assert (verdict.status, verdict.exit_code, verdict.stdout, verdict.stderr) == ("passed", 0, "xyxy\n", "é\n")
    assert run_python("raise ValueError('no')").status == "failed"
    assert run_python("import sys; sys.exit(3)").exit_code == 3


@needs_bubblewrap
def test_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass  # it is there for us
        verdict = run_python(f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2)")
    assert verdict.status == "failed"
    assert "refused" in verdict.stderr or "unreachable" in verdict.stderr


@needs_bubblewrap
def test_no_file_of_the_user_and_no_environment_is_visible(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    monkeypatch.setenv("TEACHER_KEY", "hidden")
    program = f"""
import os
paths = [{str(secret)!r}, {str(Path.home() / ".bashrc")!r}, {str(Path(__file__).resolve())!r}, "/etc/passwd"]
print([path for path in paths if os.path.exists(path)])
print("hidden" in str(os.environ), os.listdir(os.path.expanduser("~")))
"""
    assert run_python(program).stdout == "[]\nFalse ['program.py']\n"


@needs_bubblewrap
def test_other_processes_are_neither_seen_nor_signalled():
    verdict = run_python(f"import os; os.kill({os.getpid()}, 9)")
    assert verdict.status == "failed"
    assert "ProcessLookupError" in verdict.stderr


@needs_bubblewrap
def test_only_small_folders_are_writable():
    for path in ("/x", "/dev/x", "/usr/x", "/etc/x"):
        refused = run_python(f"open({path!r}, 'w')").stderr
        assert "Read-only file system" in refused or "Permission denied" in refused, path
    program = """
import os
for folder in ("/tmp", "/dev/shm"):
    try:
        for number in range(100):
            with open(f"{folder}/{number}", "wb") as file:
                file.write(b"x" * (1 << 19))
    except OSError as error:
        print(error.strerror)
"""
    assert run_python(program, limits=Limits(disk_bytes=8 << 20)).stdout == "No space left on device\n" * 2


@needs_bubblewrap
@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("x = bytearray(1 << 30)", "memory"),
        (
            "import os, time\nfor _ in range(6):\n    if os.fork() == 0: x = bytearray(90 << 20); time.sleep(9)\n",
            "memory",
        ),
        ("while True: pass", "timeout"),
        ("import os\nwhile True: os.fork()", "processes"),
        ("while True: print('x' * 1000)", "output"),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000)", "output"),
        ("open('/tmp/x', 'wb').write(b'x' * (20 << 20))", "failed"),
    ],
)
def test_each_limit_ends_the_run_under_its_name(program, status):
    if "fork" in program and status == "memory":
        program += "time.sleep(9)"
    verdict = run_python(program, limits=SMALL)
    assert verdict.status == status
    assert len(verdict.stdout) + len(verdict.stderr) <= SMALL.output_bytes


@needs_bubblewrap
def test_nothing_survives_the_wall_clock():
    mark = f"sleeper-{os.getpid()}"
    program = "import os, time\nfor _ in range(3): os.fork()\n"
    program += f"import ctypes\nctypes.CDLL(None).prctl(15, {mark[:15].encode()!r})\ntime.sleep(60)"
    started = time.monotonic()
    assert run_python(program, limits=Limits(idle_seconds=1.0)).status == "timeout"
    assert time.monotonic() - started < 30
    deadline = time.monotonic() + 5
    while _running(mark[:15]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _running(mark[:15])


def _running(name):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if (
                Path(f"/proc/{pid}/comm").read_text().strip() == name
                and "Z" not in Path(f"/proc/{pid}/stat").read_text()
            ):
                found.append(pid)
        except OSError:
            continue
    return found


@needs_bubblewrap
def test_runs_beside_each_other_do_not_mix():
    verdicts = {}
    threads = [threading.Thread(target=lambda n=n: verdicts.update({n: run_python(f"print({n})")})) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: verdict.stdout for n, verdict in verdicts.items()} == {n: f"{n}\n" for n in range(6)}


def test_nothing_runs_where_bubblewrap_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    why_unavailable.cache_clear()
    try:
        assert "not installed" in (why_unavailable() or "")
        with pytest.raises(SandboxUnavailableError, match="refusing to run untrusted code"):
            run_python(f"open({str(tmp_path / 'ran')!r}, 'w')", limits=Limits(processes=63))
        assert not (tmp_path / "ran").exists()
    finally:
        monkeypatch.undo()
        why_unavailable.cache_clear()
