"""The order within a repository: what is imported before what imports it, so that a long context holds both.

As in DeepSeek-Coder (Guo et al. 2024, arXiv:2401.14196, section 2.2): of the files whose imports in the repository have
all been placed the first by path; in a cycle the one that waits for the fewest.
"""

import heapq
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Literal

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from demiurgic_jax.curation.corpus.block import CPU
from demiurgic_jax.curation.corpus.reading import share

OrderName = Literal["imports", "path"]

_C = re.compile(r'^[ \t]*#[ \t]*include[ \t]*["<]([^">\n]+)[">]', re.MULTILINE)
_SCRIPT = re.compile(r"""(?:\bfrom|\bimport|\brequire\(|\bimport\()\s*['"]([^'"\n]+)['"]""")
_IMPORTS: dict[str, re.Pattern[str]] = {
    "python": re.compile(r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import|import[ \t]+([\w.]+))", re.MULTILINE),
    "javascript": _SCRIPT,
    "typescript": _SCRIPT,
    "go": re.compile(r'^(?:import[ \t]+|[ \t]+)(?:[\w.]+[ \t]+)?"([\w./-]+)"[ \t]*$', re.MULTILINE),
    "rust": re.compile(r"^[ \t]*(?:pub(?:\([\w:]+\))?[ \t]+)?(?:mod|use)[ \t]+([\w:]+)", re.MULTILINE),
    "java": re.compile(r"^[ \t]*import[ \t]+(?:static[ \t]+)?([\w.]+)", re.MULTILINE),
    "cpp": _C,
    "c": _C,
}
# Files that stand for their folder.
_OF_FOLDER = frozenset(["__init__", "index", "mod", "lib"])
_NO_MODULE = frozenset(["crate", "self", "super", ""])
# A name that so many files bear says nothing.
_MOST_MEANT = 16


class Order(PipelineStep):
    """Documents by repository, and in it by language and `by`. Repositories, a `heldout` share of them, are dealt to
    the splits "train" and "heldout". Files of one language in a repository are joined into documents of up to `joined`
    characters, each behind a comment with its path; 0: each is a document."""

    type, name = "corpus", "ordering"

    def __init__(self, by: OrderName, joined: int, heldout: float):
        super().__init__()
        self.by, self.joined, self.heldout = by, joined, heldout

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        cpu = 0.0
        for repository, of in groupby(data, key=lambda each: each.metadata["repository"]):
            split = "heldout" if is_heldout(repository, self.heldout) else "train"
            files = sorted(of, key=lambda each: each.metadata["language"])
            started = time.thread_time()
            placed = [
                document
                for _, alike in groupby(files, key=lambda each: each.metadata["language"])
                for document in self._placed(list(alike))
            ]
            cpu += time.thread_time() - started
            for document in placed:
                document.metadata["split"] = split
                yield document
        self.stat_update(CPU, value=cpu, unit="task")

    def _placed(self, files: list[Document]) -> Iterable[Document]:
        if self.by == "imports":
            paths = [each.metadata["path"] for each in files]
            texts = [each.text for each in files]
            files = [files[number] for number in import_order(paths, texts, files[0].metadata["language"])]
        return _joined(files, self.joined) if self.joined else files


def is_heldout(repository: str, fraction: float) -> bool:
    """Whether the whole `repository` is held out of training."""
    return share(f"heldout {repository}", 1 << 20) < fraction * (1 << 20)


def import_order(paths: Sequence[str], texts: Sequence[str], language: str) -> list[int]:
    """Numbers of the files, what is imported first. `paths` are of one repository and sorted."""
    needs = _needs(paths, texts, language)
    wanted_by: dict[int, list[int]] = defaultdict(list)
    for number, needed in enumerate(needs):
        for other in needed:
            wanted_by[other].append(number)
    waiting = [len(needed) for needed in needs]
    heap = [(count, number) for number, count in enumerate(waiting)]
    heapq.heapify(heap)
    order, placed = [], [False] * len(paths)
    while heap:
        count, number = heapq.heappop(heap)
        if placed[number] or count != waiting[number]:
            continue
        placed[number] = True
        order.append(number)
        for other in wanted_by[number]:
            waiting[other] -= 1
            heapq.heappush(heap, (waiting[other], other))
    return order


def _needs(paths: Sequence[str], texts: Sequence[str], language: str) -> list[set[int]]:
    """For each file the numbers of those that it imports."""
    pattern = _IMPORTS.get(language)
    if pattern is None:
        return [set() for _ in paths]
    modules = [_module(path, language) for path in paths]
    by_last: dict[str, list[int]] = defaultdict(list)
    for number, module in enumerate(modules):
        if module:
            by_last[module[-1]].append(number)
    found = []
    for number, text in enumerate(texts):
        named = {next(filter(None, match.groups()), "") for match in pattern.finditer(text)}
        meant: set[int] = set()
        for name in named:
            meant |= _meant(_parts(name, paths[number], language), modules, by_last, modules[number])
        found.append(meant - {number})
    return found


def _module(path: str, language: str) -> tuple[str, ...]:
    """What an import calls the file: its path without the suffix, in Go its folder."""
    plain = PurePosixPath(path)
    if language == "go":
        return plain.parent.parts
    if language in ("cpp", "c"):
        return plain.parts
    stem = plain.with_suffix("").parts
    return stem[:-1] if stem[-1] in _OF_FOLDER and len(stem) > 1 else stem


def _parts(name: str, path: str, language: str) -> tuple[str, ...]:
    """The parts of an imported name, relative ones as seen from the root of the repository."""
    folder = PurePosixPath(path).parent.parts
    if language == "python" and name.startswith("."):
        dots = len(name) - len(name.lstrip("."))
        return (*folder[: len(folder) - dots + 1], *filter(None, name.lstrip(".").split(".")))
    if language in ("javascript", "typescript") and name.startswith("."):
        parts = list(folder)
        for part in name.split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part != ".":
                parts.append(part)
        if parts:
            parts[-1] = re.sub(r"\.(?:[cm]?[jt]sx?)$", "", parts[-1])
        return tuple(parts[:-1] if parts[-1:] == ["index"] else parts)
    separator = {"python": ".", "java": ".", "rust": "::"}.get(language, "/")
    return tuple(part for part in name.split(separator) if part not in _NO_MODULE)


def _meant(
    name: tuple[str, ...], modules: Sequence[tuple[str, ...]], by_last: dict[str, list[int]], own: tuple[str, ...]
) -> set[int]:
    """Files whose module ends with `name`, or with `name` less its last part, which may be a thing in it."""
    for parts in (name, name[:-1]):
        if not parts:
            continue
        ends = [number for number in by_last.get(parts[-1], ()) if modules[number][-len(parts) :] == parts]
        if len(parts) == 1:  # of the standard library, as often as not, unless it lies beside or at the root
            ends = [number for number in ends if modules[number][:-1] in (own[:-1], ())]
        if ends and len(ends) <= _MOST_MEANT:
            return set(ends)
    return set()


def _joined(files: Sequence[Document], characters: int) -> Iterator[Document]:
    held: list[Document] = []
    length = 0
    for each in files:
        if held and length + len(each.text) > characters:
            yield _one(held)
            held, length = [], 0
        held.append(each)
        length += len(each.text)
    if held:
        yield _one(held)


def _one(files: Sequence[Document]) -> Document:
    first = files[0]
    mark = "#" if first.metadata["language"] in ("python", "shell", "ruby") else "//"
    text = "\n".join(f"{mark} {each.metadata['path']}\n{each.text.rstrip()}\n" for each in files)
    licences = sorted({each.metadata["licence"] for each in files})
    metadata = {**first.metadata, "files": len(files), "bytes": sum(each.metadata["bytes"] for each in files)}
    return Document(text=text, id=first.id, metadata={**metadata, "licence": " AND ".join(licences)})
