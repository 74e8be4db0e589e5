"""One kept teacher answer, and the files of them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from demiurgic_jax.curation.jsonl import read_jsonl, write_jsonl
from demiurgic_jax.data.completer import Message
from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class Example:
    """A verified answer. `id` is the key in the ledger of its request, or of the first where others followed.

    Either `messages` (a chat, answered by `completion`) or `prompt` (raw text, continued by `completion`) is set; both,
    and `suffix`, where the chat was about what stands between prompt and suffix. `verdicts` maps a check to its
    outcome: "syntax" to "parses"; "tests" to "passed", "none" or "not run"; and so on. Tokens and `cost` (dollars) are
    those of all requests and attempts that it took. `version` names the prompts. `path` and `licence` are those of the
    seed's file; `language` is that of the answer.
    """

    id: str
    task: str
    language: str
    messages: tuple[Message, ...]
    prompt: str | None
    suffix: str | None
    completion: str
    verdicts: dict[str, str]
    prompt_tokens: int
    completion_tokens: int
    cost: float
    teacher: str
    version: str
    seed_id: str
    seed_name: str
    path: str
    licence: str


@dataclass(frozen=True)
class Rejection:
    """A teacher answer that was not kept: `reason` is one of a few words that can be counted, `detail` is for eyes."""

    id: str
    task: str
    language: str
    reason: str
    detail: str
    text: str
    cost: float
    teacher: str


def write_examples(path: str | Path, examples: Iterable[Example]) -> int:
    """Writes examples as JSON lines, atomically; returns their number."""
    return write_jsonl(path, map(asdict, examples))


def read_examples(path: str | Path) -> list[Example]:
    """Raises UserError naming file and line for rows of another shape."""
    names = {field.name for field in fields(Example)}
    examples = []
    for number, row in read_jsonl(path):
        if row.keys() != names:
            wrong = ", ".join(sorted(row.keys() ^ names))
            raise UserError(
                f"{path} line {number} is not an example (fields {wrong}): remove the file and verify again"
            )
        row["messages"] = tuple(Message(**message) for message in row["messages"])
        examples.append(Example(**row))
    return examples


def write_rejections(path: str | Path, rejections: Iterable[Rejection]) -> int:
    """Writes rejections as JSON lines, atomically; returns their number."""
    return write_jsonl(path, map(asdict, rejections))
