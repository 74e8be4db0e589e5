"""Rust with rustc alone: a program as it is, or a candidate with a module of `#[test]` functions.

There is no cargo and so no crate but the standard library: uses of others are taken out, and code that needs them
does not compile.
"""

import functools
import re
import shutil
import subprocess
from pathlib import Path

from demiurgic_jax.sandbox.cache import cached
from demiurgic_jax.sandbox.compiled import Build
from demiurgic_jax.sandbox.toolchains import Toolchain

_HARNESS = Path(__file__).with_name("harness")
_FLAGS = ["--edition=2021", "--cap-lints=allow", "-Copt-level=1", "-Cdebuginfo=0"]
_INNER = re.compile(r"^[ \t]*#!\[[^\]\n]*\][ \t]*$", re.MULTILINE)
_OTHER_CRATES = re.compile(r"^[ \t]*(?:extern crate|use)[ \t]+(?:rand|regex|md5)\b[^;]*;", re.MULTILINE)
_MODULE = re.compile(r"(?:#\[cfg\(test\)\]\s*)?\bmod[ \t]+(\w+)\s*\{")
_TEST = re.compile(r"#\[test\]((?:\s*#\[[^\]]*\])*)\s*(?:pub\s+)?fn\s+(\w+)\s*\(\s*\)")
_COMPARING = re.compile(r"\bimpl\b[^{;]*\b(PartialEq|PartialOrd|Ord|Not|Sub|Deref)\b[^{;]*\bfor\b")
_COMMENT = re.compile(r"//.*|/\*[\s\S]*?\*/")
# Named one by one these come before the candidate's macros of the same names, which `use super::*` brings.
_MACROS = (
    "#[allow(unused_imports)] use ::std::{assert, assert_eq, assert_ne, debug_assert, matches, panic, vec, format};"
)


def rust_program(program: str, tools: Toolchain) -> Build:
    return Build({"main.rs": program}, [[*_rustc(tools), "{src}/main.rs", "-o", "{out}/program"]], ["{out}/program"])


def rust_tests(candidate: str, tests: str, tools: Toolchain) -> Build:
    """The tests stand before the candidate, where a macro of its has no say, and are called from a `main` in C."""
    folder = _harness(tools)
    names = [(name, "should_panic" in attributes) for attributes, name in _TEST.findall(tests)]
    module = _MODULE.search(tests)
    compared = _COMPARING.search(_COMMENT.sub("", candidate))
    refused = f"the candidate implements {compared[1]}, by which the tests decide" if compared else ""
    if not names or module is None:
        refused = refused or "the tests are no module with functions marked #[test]"
    else:
        calls = "".join(
            f"assert!(::std::panic::catch_unwind(|| {{ {name}(); }}).is_err());" if panics else f"{name}();"
            for name, panics in names
        )
        run = f"{_MACROS} pub fn demiurgic_run() {{ {calls} }}"
        body = re.sub(r"#\[should_panic[^\]]*\]", "", _TEST.sub(r"fn \2()", tests))
        body = _MODULE.sub(lambda found: f"pub mod {found[1]} {{ {run}", body, count=1)
        tests = _OTHER_CRATES.sub("", body)
    inner = _INNER.findall(candidate)
    source = "\n".join(
        [
            *inner,
            "mod candidate {",
            tests,
            _OTHER_CRATES.sub("", _INNER.sub("", candidate)),
            "}",
            '#[no_mangle] pub extern "C" fn demiurgic_tests(value: u64) -> u64 {',
            f"candidate::{module[1] if module else 'tests'}::demiurgic_run(); !value }}",
        ]
    )
    compile_ = [*_rustc(tools), "--crate-type=staticlib", "{src}/tests.rs", "-o", "{out}/libtests.a"]
    # The harness is first in the linker's line, so that nothing of the candidate's is run before it.
    link = [tools.programs["gcc"], "-s", "-o", "{out}/tests", str(folder / "main.o"), "{out}/libtests.a"]
    return Build(
        {"tests.rs": source},
        [compile_, [*link, "-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"]],
        ["{out}/tests", "{job}", "{report}"],
        folders=[str(folder)],
        refused=refused,
        hidden=["tests"],
    )


def _rustc(tools: Toolchain) -> list[str]:
    return [tools.programs["rustc"], *_FLAGS, f"-Clinker={tools.programs['gcc']}"]


@functools.cache
def _compiled_harness(compiler: str) -> Path:
    def make(folder: Path, final: Path) -> None:
        shutil.copy(_HARNESS / "main.c", folder / "main.c")
        subprocess.run([compiler, "-O1", "-c", str(folder / "main.c"), "-o", str(folder / "main.o")], check=True)

    return cached("rust", "\n".join([compiler, (_HARNESS / "main.c").read_text()]), make)


def _harness(tools: Toolchain) -> Path:
    return _compiled_harness(tools.programs["gcc"])
