"""Go: a program as it is, or a candidate's functions with a file of tests for `testing` and testify's `assert`.

Compiler and linker are called without the `go` command, which would spend most of its time looking for changes.
"""

import functools
import re
import secrets
import subprocess
from pathlib import Path

from demiurgic_jax.sandbox.cache import cached
from demiurgic_jax.sandbox.compiled import Build
from demiurgic_jax.sandbox.toolchains import Toolchain

_HARNESS = Path(__file__).with_name("harness")
_PACKAGE = re.compile(r"^[ \t]*package[ \t]+\w+.*$", re.MULTILINE)
_IMPORT = re.compile(r"^import[ \t]*(?:\(([^)]*)\)|([\w.]*[ \t]*\"[^\"\n]+\"))", re.MULTILINE)
_TEST = re.compile(r"^func[ \t]+(Test\w+)[ \t]*\(", re.MULTILINE)
_MAIN = 'package main\nimport candidate "demiurgic/candidate"\nfunc main() { candidate.DemiurgicTests() }\n'
_PREDECLARED = re.compile(
    r"^[ \t]*(?:func|var|const|type)?[ \t]*\b(true|false|nil|len|append|panic|bool|int|string|any)\b"
    r"[ \t]*(?:=[^=]|\(.*\).*\{|[ \t]\w+[ \t]*=)",
    re.MULTILINE,
)


def go_program(program: str, tools: Toolchain) -> Build:
    folder = _standard_library(tools)
    compile_ = [tools.programs["compile"], "-p", "main", "-importcfg", str(folder / "importcfg")]
    link = [tools.programs["link"], "-s", "-w", "-importcfg", str(folder / "importcfg")]
    steps = [
        [*compile_, "-o", "{out}/main.a", "{src}/main.go"],
        [*link, "-o", "{out}/program", "{out}/main.a"],
    ]
    return Build({"main.go": program}, steps, ["{out}/program"], folders=[str(folder)], address_space=False)


def go_tests(candidate: str, tests: str, tools: Toolchain) -> Build:
    """The candidate's package, with the tests in a file of their own, is called from a `main` that it cannot name."""
    folder = _standard_library(tools)
    token = f"demiurgic/{secrets.token_hex(8)}"
    names = _TEST.findall(tests)
    shadowed = _PREDECLARED.search(_top_level(candidate))
    refused = f"the candidate gives {shadowed[1]} another meaning" if shadowed else ""
    if not names:
        refused = refused or "the tests define no function Test…"
    # Each test is counted as it ends: testing's own result is also "passed" where no test was run.
    runner = "\n".join(
        [
            "package candidate",
            f'import token "{token}"',
            'import "testing"',
            "func DemiurgicTests() {",
            "held := 0",
            "count := func(test func(*testing.T)) func(*testing.T) {",
            "return func(t *testing.T) { test(t); if !t.Failed() { held++ } } }",
            "testing.Main(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{",
            *(f'{{"{name}", count({name})}},' for name in names),
            f'{{"all", func(*testing.T) {{ if held == {len(names)} {{ token.Report() }} }} }},',
            "}, nil, nil)",
            "}",
        ]
    )
    sources = {
        "candidate.go": _as_package(candidate),
        "tests.go": _as_package(tests.replace("t.Parallel()", ""), candidate),
        "runner.go": runner,
        "token.go": (_HARNESS / "token.go").read_text(),
        "main.go": _MAIN,
        "importcfg": (folder / "importcfg").read_text()
        + f"packagefile {token}={{out}}/token.a\npackagefile demiurgic/candidate={{out}}/candidate.a\n",
    }
    compile_ = [tools.programs["compile"], "-importcfg", "{src}/importcfg"]
    link = [tools.programs["link"], "-s", "-w", "-importcfg", "{src}/importcfg"]
    own = ["{src}/candidate.go", "{src}/tests.go", "{src}/runner.go"]
    steps = [
        [*compile_, "-p", token, "-o", "{out}/token.a", "{src}/token.go"],
        [*compile_, "-p", "demiurgic/candidate", "-o", "{out}/candidate.a", *own],
        [*compile_, "-p", "main", "-o", "{out}/main.a", "{src}/main.go"],
        [*link, "-o", "{out}/tests", "{out}/main.a"],
    ]
    run = ["{out}/tests", "{job}", "{report}"]
    return Build(
        sources,
        steps,
        run,
        folders=[str(folder)],
        address_space=False,
        refused=refused,
        hidden=["tests"],
        placed=["importcfg"],
    )


def _as_package(source: str, more_imports: str = "") -> str:
    """`source` in the candidate's package, with those of its imports, and of `more_imports`', that it uses."""
    body = _IMPORT.sub("", _PACKAGE.sub("", source, count=1))
    groups = [*_IMPORT.findall(source), *_IMPORT.findall(more_imports)]
    lines = dict.fromkeys(line.strip() for group in groups for line in "\n".join(group).splitlines())
    used = [line for line in lines if '"' in line and re.search(rf"\b{re.escape(_local_name(line))}\.", body)]
    return "\n".join(["package candidate", *(f"import {line}" for line in used), body])


def _local_name(line: str) -> str:
    alias, _, path = line.partition('"')
    return alias.strip() or path.rstrip('"').rpartition("/")[2]


def _top_level(source: str) -> str:
    """The lines that are not indented, and those of `const (…)` and `var (…)` groups."""
    groups = re.findall(r"^(?:const|var|type)[ \t]*\(([^)]*)\)", source, re.MULTILINE)
    return "\n".join([*(line for line in source.splitlines() if line[:1].strip()), *groups])


@functools.cache
def _compiled_library(go: str, compiler: str, version: str) -> Path:
    shim = (_HARNESS / "assert.go").read_text()

    def make(folder: Path, final: Path) -> None:
        # Later versions ship no compiled library: `go list -export` then compiles it into the cache named here.
        listing = "{{if .Export}}packagefile {{.ImportPath}}={{.Export}}{{end}}"
        done = subprocess.run(
            [go, "list", "-export", "-deps", "-f", listing, "std"],
            check=True, capture_output=True, text=True, cwd=folder,
            env={"GOCACHE": str(folder / "cache"), "HOME": str(folder), "PATH": "/usr/bin:/bin", "GOFLAGS": "-mod=mod"},
        )  # fmt: skip
        entries = done.stdout.replace(str(folder), str(final))
        (folder / "assert.go").write_text(shim)
        (folder / "importcfg").write_text(done.stdout)
        command = [compiler, "-p", "github.com/stretchr/testify/assert", "-importcfg", str(folder / "importcfg")]
        subprocess.run([*command, "-o", str(folder / "assert.a"), str(folder / "assert.go")], check=True)
        entries += f"packagefile github.com/stretchr/testify/assert={final / 'assert.a'}\n"
        (folder / "importcfg").write_text(entries)

    return cached("go", "\n".join([go, compiler, version, shim]), make)


def _standard_library(tools: Toolchain) -> Path:
    """The folder of `importcfg`, which names the compiled packages: the standard library's and assert."""
    return _compiled_library(tools.programs["go"], tools.programs["compile"], tools.version)
