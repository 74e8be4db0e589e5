"""Java: a program as it is, or a candidate's classes with a class `Main` whose `main` throws when a test fails."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

from demiurgic_jax.sandbox.cache import cached
from demiurgic_jax.sandbox.compiled import Build
from demiurgic_jax.sandbox.toolchains import Toolchain

_HARNESS = Path(__file__).with_name("harness")
# One short program does not repay a second compiler, a concurrent collector or many threads.
_MACHINE = ["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xss64m", "-XX:-UsePerfData"]
_COMPILER = [*(f"-J{option}" for option in _MACHINE), "-proc:none", "-nowarn", "-encoding", "UTF-8"]
_TYPE = re.compile(r"\b(?:class|interface|enum|record)\s+(\w+)")
_PUBLIC_TYPE = re.compile(r"\bpublic\s+((?:final\s+|abstract\s+)*(?:class|interface|enum|record)\s+)(?!Main\b)")
_MAIN_TYPE = re.compile(
    r"\b(?:class|interface|enum|record)\s+(\w+)(?=[^{]*\{(?:(?!\bclass\b)[\s\S])*?\bstatic\s+void\s+main\b)"
)
_IMPORT = re.compile(r"^[ \t]*import\s[^;]*;", re.MULTILINE)
_PACKAGE = re.compile(r"^[ \t]*package\s[^;]*;", re.MULTILINE)
_HEAP_PART = 0.75  # of the memory limit; the machine itself needs the rest


def java_program(program: str, tools: Toolchain, memory_bytes: int) -> Build:
    """The class that has `main` is started, whatever it is called."""
    source = _PUBLIC_TYPE.sub(r"\1", _PACKAGE.sub("", program)).replace("public class Main", "class Main")
    found = _MAIN_TYPE.search(program)
    return Build(
        {"Program.java": source},
        [[tools.programs["javac"], *_COMPILER, "-d", "{out}", "{src}/Program.java"]],
        [*_run(tools, memory_bytes), "-cp", "{out}", found[1] if found else "Main"],
        address_space=False,
        refused="" if found else "the program has no `static void main`",
    )


def java_tests(candidate: str, tests: str, tools: Toolchain, memory_bytes: int) -> Build:
    folder = _harness(tools)
    imports = dict.fromkeys(map(str.strip, [*_IMPORT.findall(candidate), *_IMPORT.findall(tests)]))
    bodies = [_PUBLIC_TYPE.sub(r"\1", _PACKAGE.sub("", _IMPORT.sub("", text))) for text in (candidate, tests)]
    if re.search(r"\bclass\s+Main\b", candidate):
        # A candidate that brings a main of its own: the tests' is the one that counts.
        bodies[0] = re.sub(r"\bMain\b", "CandidateMain", bodies[0])
    declared = ",".join(dict.fromkeys(_TYPE.findall(bodies[0]))) or "Solution"
    return Build(
        {"Main.java": "\n".join([*imports, *bodies])},
        [[tools.programs["javac"], *_COMPILER, "-d", "{out}", "{src}/Main.java"]],
        [*_run(tools, memory_bytes), "-cp", f"{{out}}:{folder}", "Demiurgic", "{job}", "{report}", declared],
        folders=[str(folder)],
        address_space=False,
        refused="" if re.search(r"\bclass\s+Main\b", tests) else "the tests define no class Main",
    )


def _run(tools: Toolchain, memory_bytes: int) -> list[str]:
    return [tools.programs["java"], *_MACHINE, f"-Xmx{int(memory_bytes * _HEAP_PART) >> 20}m"]


@functools.cache
def _compiled_harness(compiler: str, version: str) -> Path:
    text = (_HARNESS / "Demiurgic.java").read_text()

    def make(folder: Path, final: Path) -> None:
        shutil.copy(_HARNESS / "Demiurgic.java", folder / "Demiurgic.java")
        subprocess.run([compiler, "-d", str(folder), str(folder / "Demiurgic.java")], check=True)

    return cached("java", "\n".join([compiler, version, text]), make)


def _harness(tools: Toolchain) -> Path:
    return _compiled_harness(tools.programs["javac"], tools.version)
