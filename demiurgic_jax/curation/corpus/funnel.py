"""What became of the raw files, from the statistics that the tasks left: by stage, block, language and reason."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datatrove.utils.stats import MetricStats

from demiurgic_jax.curation.corpus.block import CPU, DROPPED, KEPT

STAGES = ("read", "exact", "sign", "pairs", "clusters", "clean")
# Of the blocks that drop, in the order that documents meet them.
BLOCKS = ("reading", "quality", "exact duplicates", "near-duplicates", "syntax", "benchmarks")


@dataclass(frozen=True)
class Amount:
    """Documents and the bytes of their raw files."""

    documents: int = 0
    size: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.documents + other.documents, self.size + other.size)


@dataclass
class Funnel:
    """`dropped`: (block, language, reason) to amounts; `kept`: (block, language), what the block let through.
    `cpu_seconds` are of each block, `seconds` those that each stage took by the clock. `placeholders` were put by
    kind, `beside` counts links and folders that were not entered, `changed` the documents with placeholders."""

    dropped: dict[tuple[str, str, str], Amount] = field(default_factory=lambda: defaultdict(Amount))
    kept: dict[tuple[str, str], Amount] = field(default_factory=lambda: defaultdict(Amount))
    cpu_seconds: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    placeholders: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    changed: int = 0

    def languages(self) -> list[str]:
        """By what was read of them, most first."""
        names = {language for _, language in self.kept} | {language for _, language, _ in self.dropped}
        return sorted(names, key=lambda name: (-self.entered("reading", name).size, name))

    def entered(self, block: str, language: str | None = None) -> Amount:
        """What came to `block`."""
        left = self.lost(block, language)
        return left + self.left(block, language)

    def left(self, block: str, language: str | None = None) -> Amount:
        """What `block` let through."""
        found = [amount for (name, of), amount in self.kept.items() if name == block and language in (None, of)]
        return sum(found, Amount())

    def lost(self, block: str, language: str | None = None) -> Amount:
        """What `block` dropped."""
        found = [amount for (name, of, _), amount in self.dropped.items() if name == block and language in (None, of)]
        return sum(found, Amount())

    def reasons(self) -> list[tuple[str, str, Amount]]:
        """(block, reason, amount) over all languages, in the order of blocks, most documents first."""
        found: dict[tuple[str, str], Amount] = defaultdict(Amount)
        for (block, _, reason), amount in self.dropped.items():
            found[block, reason] += amount
        order = {block: number for number, block in enumerate(BLOCKS)}
        rows = [(block, reason, amount) for (block, reason), amount in found.items()]
        return sorted(rows, key=lambda row: (order.get(row[0], len(order)), -row[2].documents, row[1]))

    def as_json(self) -> dict[str, Any]:
        """All but the times, for a manifest: it follows from sources and configuration alone."""
        return {
            "read": {language: vars(self.entered("reading", language)) for language in self.languages()},
            "kept": {language: vars(self.left(self.last_block(), language)) for language in self.languages()},
            "dropped": {
                f"{block}: {reason}": amount.documents for block, reason, amount in self.reasons()
            },
            "placeholders": dict(sorted(self.placeholders.items())),
        }  # fmt: skip

    def last_block(self) -> str:
        """The last of the blocks that can drop which ran."""
        ran = {block for block, _ in self.kept} | {block for block, _, _ in self.dropped}
        return next((block for block in reversed(BLOCKS) if block in ran), BLOCKS[0])


def read_funnel(folder: Path) -> Funnel:
    """From the corpus' `folder`/logs."""
    funnel = Funnel()
    for stage in STAGES:
        logs = folder / "logs" / stage
        for path in sorted((logs / "stats").glob("*.json")):
            for block in json.loads(path.read_text()):
                _add(funnel, block)
        if (logs / "seconds.json").exists():
            funnel.seconds[stage] = json.loads((logs / "seconds.json").read_text())
    return funnel


def _add(funnel: Funnel, block: Mapping[str, Any]) -> None:
    name = block["name"].removeprefix("corpus: ")
    for label, stat in block["stats"].items():
        known = MetricStats.from_dict(stat)
        number, total = known.n, known.total
        what, _, rest = label.partition("/")
        if what == KEPT:
            funnel.kept[name, rest.partition("/")[0]] += Amount(number, int(total))
        elif what == DROPPED:
            language, _, reason = rest.partition("/")
            funnel.dropped[name, language, reason] += Amount(number, int(total))
        elif what == "placeholders":
            funnel.placeholders[rest] += int(total)
        elif what == "beside":
            funnel.beside[rest] += int(total)
        elif label == "changed":
            funnel.changed += int(total)
        elif label == CPU:
            funnel.cpu_seconds[name] += total
