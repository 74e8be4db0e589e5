"""Reads HumanEvalPack as programs and tests of the sandbox; the files are those of shared/data/humanevalpack."""

import json
from pathlib import Path

FILES = {"python": "python", "javascript": "js", "java": "java", "cpp": "cpp", "go": "go", "rust": "rust"}
# What the published harness puts before every program, since some rows lack what they use.
_CPP = "".join(f"#include <{name}>\n" for name in ("algorithm", "math.h", "stdio.h", "stdlib.h"))
_GO_PACKAGES = ("math", "strings", "fmt", "strconv", "time", "bytes", "regexp", "sort", "math/rand", "crypto/md5")
_GO = "import (\n" + "".join(f'"{name}"\n' for name in _GO_PACKAGES) + ")\n"

# Rows that cannot pass, with the reason.
EXCEPTIONS = {
    "JavaScript/162": "needs the npm package js-md5",
    "Go/95": "its answer hangs on the order of a map's keys, which Go draws anew each time",
    "Rust/32": "its tests need the crate rand",
    "Rust/38": "its tests need the crate rand",
    "Rust/50": "its tests need the crate rand",
    "Rust/53": "its tests need the crate rand",
    "Rust/91": "needs the crate regex",
    "Rust/162": "needs the crate md5",
}


def rows(folder: Path, language: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / f"{FILES[language]}.jsonl").read_text().splitlines()]


def program(language: str, row: dict[str, str], solution: str) -> str:
    match language:
        case "cpp":
            return _CPP + row["prompt"] + row[solution]
        case "go":
            return _GO + row["prompt"] + row[solution]
        case "rust":
            return row["declaration"] + row[solution]
        case _:
            return row["prompt"] + row[solution]


def checks(language: str, row: dict[str, str]) -> str:
    return row["test_setup"] + row["test"] if language == "go" else row["test"]
