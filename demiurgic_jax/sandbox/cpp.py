"""C++ with g++: a program as it is, or a candidate with tests that define `main`."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

from demiurgic_jax.sandbox.cache import cached
from demiurgic_jax.sandbox.compiled import Build
from demiurgic_jax.sandbox.toolchains import Toolchain

_FLAGS = ["-std=c++17", "-O1", "-w"]
# Enough to be worth keeping compiled, and in nearly every program; used only where a program includes them all.
_COMMON_HEADERS = ("algorithm", "math.h", "stdio.h", "stdlib.h")
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*(?:include\b.*|undef[ \t]+NDEBUG[ \t]*)$", re.MULTILINE)
_MACRO = re.compile(r"(?:^|\n)[ \t]*(?:#|%:)[ \t]*define[ \t]+(\w+)")
_MAIN = re.compile(r"\bint\s+main\s*\(")
_BRACES = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|//.*|/\*[\s\S]*?\*/|[{}]')
# By these the tests decide, so the candidate may not say what they mean.
_DECIDING = re.compile(r"\boperator\s*(==|!=|<=>|!|&&|\|\||-(?!>))")
_COMMENT = re.compile(r"//.*|/\*[\s\S]*?\*/")
_HARNESS = Path(__file__).with_name("harness")


def cpp_program(program: str, tools: Toolchain) -> Build:
    folder = precompiled(tools)
    command = [tools.programs["g++"], *_FLAGS, *_headers(program, folder), "{src}/program.cpp", "-o", "{out}/program"]
    return Build({"program.cpp": program}, [[*command, "-lcrypto"] if "openssl/" in program else command],
                 ["{out}/program"], folders=[str(folder)])  # fmt: skip


def cpp_tests(candidate: str, tests: str, tools: Toolchain) -> Build:
    """The tests stand in a namespace of their own, where a comparison that the candidate defined is not found.

    The candidate's macros end with it. Candidate and tests are one file, since the tests declare nothing.
    """
    folder = precompiled(tools)
    found = _DECIDING.search(_COMMENT.sub("", candidate))
    refused = f"the candidate defines operator{found[1]}, by which the tests decide" if found else ""
    macros = _MACRO.findall(_COMMENT.sub("", candidate).replace("\\\n", ""))
    includes = _INCLUDE.findall(tests)
    body = _main_renamed(_INCLUDE.sub("", tests))
    if body is None:
        refused = refused or "the tests define no `int main(`"
    source = "\n".join(
        [
            candidate,
            *(f"#undef {name}" for name in macros),
            *includes,
            "#include <stdint.h>",
            "namespace demiurgic {",
            "struct hidden {};",
            "bool operator==(hidden, hidden); bool operator!=(hidden, hidden);",
            body or "",
            "}",
            'extern "C" uint64_t demiurgic_tests(uint64_t value) { demiurgic::demiurgic_main(); return ~value; }',
        ]
    )
    compile_ = [
        tools.programs["g++"],
        *_FLAGS,
        *_headers(source, folder),
        "-c",
        "{src}/tests.cpp",
        "-o",
        "{out}/tests.o",
    ]
    link = [tools.programs["g++"], "-s", "-o", "{out}/tests", str(folder / "main.o"), "{out}/tests.o"]
    link += ["-lcrypto"] if "openssl/" in source else []
    return Build(
        {"tests.cpp": source},
        [compile_, link],
        ["{out}/tests", "{job}", "{report}"],
        folders=[str(folder)],
        refused=refused,
        hidden=["tests"],
    )


def _main_renamed(tests: str) -> str | None:
    """Only a function that is called main returns 0 of itself; None where there is none."""
    found = _MAIN.search(tests)
    depth = 0
    for brace in _BRACES.finditer(tests, found.end() if found else len(tests)):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if found and depth == 0 and brace[0] == "}":
            body = tests[found.end() : brace.start()]
            return f"{tests[: found.start()]}static int demiurgic_main({body}return 0;\n{tests[brace.start() :]}"
    return None


def _headers(source: str, folder: Path) -> list[str]:
    named = set(re.findall(r"^[ \t]*#[ \t]*include[ \t]*<([^>]+)>", source, re.MULTILINE))
    return ["-include", str(folder / "common.hpp")] if named.issuperset(_COMMON_HEADERS) else []


@functools.cache
def _precompiled(compiler: str, linker: str, version: str) -> Path:
    harness = (_HARNESS / "main.c").read_text()
    header = "".join(f"#include <{name}>\n" for name in _COMMON_HEADERS)

    def make(folder: Path, final: Path) -> None:
        (folder / "common.hpp").write_text(header)
        subprocess.run([compiler, *_FLAGS, "-x", "c++-header", str(folder / "common.hpp")], check=True)
        shutil.copy(_HARNESS / "main.c", folder / "main.c")
        subprocess.run([linker, "-O1", "-c", str(folder / "main.c"), "-o", str(folder / "main.o")], check=True)

    return cached("cpp", "\n".join([compiler, version, *_FLAGS, header, harness]), make)


def precompiled(tools: Toolchain) -> Path:
    """The folder of the common headers, compiled, and of the harness's object file."""
    return _precompiled(tools.programs["g++"], tools.programs["gcc"], tools.version)
