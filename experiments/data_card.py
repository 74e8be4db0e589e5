"""The data card: what a run's shards hold, whose it is, who made it, what was rejected, and what it cost."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from demiurgic_jax.data.document import Document
from demiurgic_jax.distillation.example import Example


def data_card(
    name: str,
    documents: Mapping[str, Sequence[Document]],
    examples: Sequence[Example],
    outputs: Mapping[str, Mapping[str, Any]],
    left_out: Mapping[str, int],
) -> str:
    """Markdown. `documents` are those of each split, code and answers; `examples` those of the answers among them;
    `outputs` what the stages seeds, teach and verify left; `left_out` counts kept answers that are in no split."""
    seeds, teach, verify = (outputs[stage] for stage in ("seeds", "teach", "verify"))
    kept, rejected = verify["kept_of"], verify["rejected_of"]
    lines = [f"# Data card: {name}", ""]
    lines += ["Documents, by task and language; training / held out, which share no source file.", ""]
    lines += _crossed({split: Counter((each.task, each.language) for each in of) for split, of in documents.items()})
    tokens = {split: sum(len(each.tokens) for each in of) for split, of in documents.items()}
    learnt = {split: sum(_learnt(each) for each in of) for split, of in documents.items()}
    lines += ["## Size", ""]
    lines += _table(
        ["", "documents", "tokens", "of them learnt"],
        [[split, len(of), tokens[split], learnt[split]] for split, of in documents.items()],
    )
    lines += ["## Licences", "", "Of the source files that code and questions are from.", ""]
    every = [each for of in documents.values() for each in of]
    lines += _table(["licence", "documents"], Counter(each.licence for each in every).most_common())
    lines += ["## Teachers and prompts", ""]
    made = Counter((each.teacher, each.version or "plain") for each in examples)
    lines += _table(["teacher", "prompts", "answers"], [[*who, count] for who, count in sorted(made.items())])
    lines += ["## Acceptance and cost", ""]
    lines += ["Questions of a conversation count once; dollars are those of all requests, kept or not.", ""]
    dollars = verify["measured"]["dollars_of"]
    rows = []
    for task in sorted({key.partition("/")[0] for key in (*kept, *rejected)}):
        good, bad = _of_task(kept, task), _of_task(rejected, task)
        spent = dollars.get(task, 0.0)
        rows.append([task, good + bad, good, f"{good / (good + bad):.0%}", f"{spent:.4f}", _each(spent, good)])
    lines += _table(["task", "answered", "kept", "share", "dollars", "dollars for one kept"], rows)
    lines += [f"Unanswered: {teach['unanswered']:,}. Tests of the kept ones: {_listed(verify['tests'])}.", ""]
    if not verify["sandbox"]:
        lines += ["No code was run: the machine has no sandbox.", ""]
    lines += ["## Rejected, by reason", ""]
    reasons: Counter[tuple[str, str]] = Counter()
    for key, count in rejected.items():
        where, _, reason = key.partition(": ")
        reasons[reason, where.partition("/")[0]] += count
    lines += _table(["reason", "task", "answers"], [[*key, count] for key, count in sorted(reasons.items())])
    lines += ["## Left out", ""]
    lines += [f"- kept answers: {_listed(left_out)}", f"- source files: {_listed(seeds['files_left_out'])}"]
    lines += [f"- seeds: {_listed(seeds['seeds_left_out'])}", f"- made placeholders: {_listed(seeds['redacted'])}", ""]
    return "\n".join(lines)


def _crossed(counts: Mapping[str, Counter[tuple[str, str]]]) -> list[str]:
    """Tasks down, languages across."""
    keys = set().union(*counts.values())
    languages = sorted({language for _, language in keys})
    rows = [
        [task, *(" / ".join(f"{of[task, language]:,}" for of in counts.values()) for language in languages)]
        for task in sorted({task for task, _ in keys})
    ]
    return _table(["", *languages], rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    body = [f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |" for row in rows]
    return [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *body, ""]


def _learnt(document: Document) -> int:
    return len(document.tokens) if document.loss_mask is None else int(document.loss_mask.sum())


def _of_task(counts: Mapping[str, int], task: str) -> int:
    return sum(count for key, count in counts.items() if key.partition("/")[0] == task)


def _each(dollars: float, count: int) -> str:
    return f"{dollars / count:.4f}" if count else "–"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count) or "none"
