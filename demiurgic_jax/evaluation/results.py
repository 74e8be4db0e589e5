"""The folder of an evaluation: its settings, and one line for every answer and every verdict.

OUT/settings.json            what was asked of whom, and how
    BENCHMARK/answers.jsonl  what came back, written as it came: nothing is asked twice
    BENCHMARK/results.jsonl  the same with its verdict
    report.md, report.html   what came of it
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from demiurgic_jax.data.files import replacing
from demiurgic_jax.errors import UserError

# Statuses that say nothing of the answer: such rows count neither as passed nor as failed.
NOT_RUN = "not run"
REFUSED = "refused"

Key = tuple[str, int]


@dataclass(frozen=True)
class Answer:
    """What a model wrote for sample `sample` of a problem, and in how many seconds. `explanation` came before it in
    explain problems. `refused` is why it was not asked at all: the model cannot take such a request."""

    problem: str
    sample: int
    prompt: str
    answer: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    explanation: str = ""
    refused: str = ""

    @property
    def key(self) -> Key:
        return self.problem, self.sample


@dataclass(frozen=True)
class Result:
    """A judged answer. `verdict` is the sandbox's status, or "refused"; `run_seconds` is what judging took."""

    problem: str
    sample: int
    language: str
    skill: str
    bug_type: str
    prompt: str
    answer: str
    explanation: str
    verdict: str
    reason: str
    seconds: float
    run_seconds: float
    completion_tokens: int

    @property
    def key(self) -> Key:
        return self.problem, self.sample

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"


class Lines:
    """A file of JSON lines that grows; a line that a kill cut off is dropped when it is opened again."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with replacing(path) as file:
                file.write(whole)
        self._file: TextIO = path.open("a", encoding="utf-8", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()

    def append(self, row: Answer | Result) -> None:
        # Surrogates are what a byte-wise tokenizer may leave of a broken character.
        text = json.dumps(asdict(row), ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
        self._file.write(text + "\n")
        self._file.flush()


def folder_of(out: Path, benchmark: str) -> Path:
    return out / re.sub(r"[^\w.+-]", "-", benchmark)


def read_answers(path: Path) -> dict[Key, Answer]:
    """By problem and sample; none where the file is not there."""
    return {answer.key: answer for answer in (Answer(**row) for row in _rows(path))}


def read_results(path: Path) -> dict[Key, Result]:
    """By problem and sample; none where the file is not there."""
    return {result.key: result for result in (Result(**row) for row in _rows(path))}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    *lines, _ = path.read_text(encoding="utf-8").split("\n")  # what a kill cut off has no line end
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise UserError(f"{path} line {number} is not JSON ({error}): remove that line and run again") from error


def open_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Makes `out` ready for an evaluation with `settings`, or to go on with it.

    Raises UserError where other settings have made what is there already: their answers would be mixed."""
    path = out / "settings.json"
    if path.exists():
        before = read_settings(out)
        # Another list of benchmarks, and more samples of each, leave what is there as it is.
        lasting = {"benchmarks", "samples"}
        differing = [
            name
            for name in sorted({*before, *settings} - lasting)
            if _plain(before.get(name)) != _plain(settings.get(name))
        ]
        for name, files in settings["benchmarks"].items():
            if name in before["benchmarks"] and before["benchmarks"][name] != files:
                differing.append(f"files of {name}")
        if differing:
            name = differing[0]
            raise UserError(
                f"{out} holds an evaluation with other settings ({name}: {before.get(name)!r} there, "
                f"{settings.get(name)!r} here): give another --out"
            )
        settings = {**settings, "benchmarks": {**before["benchmarks"], **settings["benchmarks"]}}
        settings["samples"] = max(before["samples"], settings["samples"])
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no evaluation: give another --out")
    out.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode())


def read_settings(out: Path) -> dict[str, Any]:
    """Raises UserError where `out` holds no evaluation."""
    path = out / "settings.json"
    if not path.exists():
        raise UserError(f"{out} holds no evaluation (no settings.json): give a folder that tools.evaluate has written")
    return json.loads(path.read_text())


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
