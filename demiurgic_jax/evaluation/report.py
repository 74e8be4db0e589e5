"""What an evaluation has to say at its end: figures as JSON, and pages for people."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from demiurgic_jax.data.files import replacing
from demiurgic_jax.evaluation.contamination import Contamination
from demiurgic_jax.evaluation.plots import score_plot
from demiurgic_jax.evaluation.results import Result
from demiurgic_jax.evaluation.scores import BenchmarkScores, Score
from demiurgic_jax.evaluation.statistics import Comparison, Interval

Table = tuple[str, list[str], list[list[str]]]
_PART_NAMES = {"language": "language", "skill": "skill", "bug_type": "bug type"}
_SHOWN_CHARACTERS = 4_000
# How many of a verdict's reasons, and of contaminated problems, are named.
_SHOWN = 25


@dataclass(frozen=True)
class Evaluation:
    """All that a report shows. `compared` holds the comparison of each benchmark with the evaluation called
    `compared_with`; `failed` are the samples of failures of each."""

    settings: Mapping[str, Any]
    scores: Sequence[BenchmarkScores]
    failed: Mapping[str, Sequence[Result]]
    compared_with: str = ""
    compared: Mapping[str, Comparison] = field(default_factory=dict)
    contamination: Contamination | None = None


def write_report(out: Path, evaluation: Evaluation) -> list[Path]:
    """report.json, report.md, report.html and the picture that they show; returns their paths."""
    picture = score_plot(evaluation.scores)
    pages = {
        "report.json": json.dumps(figures(evaluation), indent=2, ensure_ascii=False) + "\n",
        "report.svg": picture,
        "report.md": markdown_page(evaluation),
        "report.html": html_page(evaluation, picture),
    }
    for name, text in pages.items():
        with replacing(out / name) as file:
            # Models write half characters at times.
            file.write(text.encode("utf-8", "replace"))
    return [out / name for name in pages]


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """For programs: every number of the report, and the settings."""
    return {
        "settings": dict(evaluation.settings),
        "benchmarks": {each.name: asdict(each) for each in evaluation.scores},
        "compared_with": evaluation.compared_with,
        "compared": {name: asdict(each) for name, each in evaluation.compared.items()},
        "contamination": None if evaluation.contamination is None else asdict(evaluation.contamination),
    }


def share(interval: Interval) -> str:
    """ "12.3 % (8.1 – 17.0)" """
    return f"{interval.value:.1%} ({interval.low * 100:.1f} – {interval.high * 100:.1f})".replace("%", " %")


def tables(evaluation: Evaluation) -> list[Table]:
    """(title, column heads, rows) of every table that both pages show."""
    shown: list[Table] = [_overview(evaluation.scores)]
    for scores in evaluation.scores:
        for kind, parts in scores.parts.items():
            if len(parts) > 1:
                shown.append(_parts(scores, _PART_NAMES[kind], parts))
    shown.append(_verdicts(evaluation.scores))
    missing = sorted({(language, why) for each in evaluation.scores for language, why in each.not_run.items()})
    if missing:
        shown.append(
            ("Not run: these count neither as passed nor as failed", ["language", "why"], [*map(list, missing)])
        )
    if evaluation.compared:
        shown.append(_comparison(evaluation))
    if evaluation.contamination is not None:
        shown.append(_contamination(evaluation.contamination))
    shown.append(("Settings", ["", ""], _settings(evaluation.settings)))
    return shown


def _overview(scores: Sequence[BenchmarkScores]) -> Table:
    ks = sorted({k for each in scores if each.whole for k in each.whole.pass_at})
    rows = [[each.name, *_score_row(each.whole, ks)] for each in scores]
    return "pass@k, with 95 % intervals over problems", ["", "problems", "samples", *_heads(ks)], rows


def _parts(scores: BenchmarkScores, kind: str, parts: Mapping[str, Score]) -> Table:
    ks = sorted({k for each in parts.values() for k in each.pass_at})
    rows = [[name, *_score_row(each, ks)] for name, each in parts.items()]
    return f"{scores.name}, by {kind}", [kind, "problems", "samples", *_heads(ks)], rows


def _heads(ks: Sequence[int]) -> list[str]:
    return [f"pass@{k}" for k in ks]


def _score_row(score: Score | None, ks: Sequence[int]) -> list[str]:
    if score is None:
        return ["0", "–", *("not run" for _ in ks)]
    return [
        f"{score.problems:,}",
        f"{score.samples}",
        *(share(score.pass_at[k]) if k in score.pass_at else "–" for k in ks),
    ]


def _verdicts(scores: Sequence[BenchmarkScores]) -> Table:
    names = sorted({name for each in scores for name in each.verdicts})
    rows = [[each.name, *(f"{each.verdicts.get(name, 0):,}" for name in names)] for each in scores]
    return "Verdicts, of samples", ["", *names], rows


def _comparison(evaluation: Evaluation) -> Table:
    rows = [
        [
            name,
            f"{each.problems:,}",
            share(each.difference),
            f"{each.only_a}",
            f"{each.only_b}",
            f"{each.p_value:.4f}",
        ]
        for name, each in evaluation.compared.items()
    ]
    heads = ["", "problems", "difference in pass@1", "only this one solves", "only the other", "McNemar's p"]
    return f"Compared with {evaluation.compared_with} (this minus that)", heads, rows


def _contamination(found: Contamination) -> Table:
    named = [[problem, ", ".join(places[:_SHOWN])] for problem, places in sorted(found.found.items())[:_SHOWN]]
    rest = len(found.found) - len(named)
    rows = [
        ["documents looked at", f"{found.documents:,} of {found.shards}"],
        ["problems found in them", f"{len(found.found):,} of {found.problems:,}"],
        *named,
        *([["and", f"{rest:,} more (report.json has all)"]] if rest else []),
    ]
    return "Contamination: problems whose text, or solution, is in the training shards", ["", "documents"], rows


def _settings(settings: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    rows: list[list[str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _settings(value, f"{prefix}{name} ")
        else:
            rows.append([f"{prefix}{name}", str(value)])
    return rows


def markdown_page(evaluation: Evaluation) -> str:
    """The report as Markdown."""
    lines = [f"# {evaluation.settings.get('model', 'Evaluation')}", "", "![pass@1](report.svg)", ""]
    for title, heads, rows in tables(evaluation):
        lines += [f"## {title}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows] + [""]
    lines += ["## Samples of failures", ""]
    for name, results in evaluation.failed.items():
        for result in results:
            lines += [f"### {name}: {result.problem}", "", f"{result.verdict}: {_cell(result.reason)}", ""]
            for title, text in _texts(result):
                fence = "`" * max(4, _longest_run(text) + 1)
                lines += [f"{title}:", "", fence, text, fence, ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _longest_run(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest


def _texts(result: Result) -> list[tuple[str, str]]:
    texts = [("asked", result.prompt), ("explained", result.explanation), ("answered", result.answer)]
    return [
        (title, text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "\n… (cut here)")
        for title, text in texts
        if text or title == "answered"
    ]


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.25rem .9rem .25rem 0;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}pre{background:#f6f7f9;padding:.7rem;overflow:auto;font-size:13px;max-height:30rem}
img{max-width:100%;height:auto}small{color:#666}details{margin:.4rem 0}
"""


def html_page(evaluation: Evaluation, svg: str) -> str:
    """The report as one file without outside assets."""
    name = html.escape(str(evaluation.settings.get("model", "Evaluation")))
    encoded = base64.b64encode(svg.encode()).decode()
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title><style>{_STYLE}</style><h1>{name}</h1>",
        f'<img alt="pass@1 with intervals" src="data:image/svg+xml;base64,{encoded}">',
    ]
    for title, heads, rows in tables(evaluation):
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads) if any(heads) else ""
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{html.escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    parts.append("<h2>Samples of failures</h2>")
    for benchmark, results in evaluation.failed.items():
        for result in results:
            reason = html.escape(f"{benchmark}: {result.problem}, {result.verdict}: {result.reason}")
            shown = "".join(f"<small>{title}</small><pre>{html.escape(text)}</pre>" for title, text in _texts(result))
            parts.append(f"<details><summary>{reason}</summary>{shown}</details>")
    return "\n".join(parts) + "</html>\n"
