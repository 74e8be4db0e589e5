"""What a run has to say at its end: figures as JSON, and pages for people."""

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demiurgic_jax.training.metrics import read_metrics
from experiments.workdir import Workdir, write_json

# Beside the shards, from where the report lies.
DATA_CARD = "shards/DATA_CARD.md"
_TASK = re.compile(r"heldout/task/[^/]+/cross_entropy")


def gather(name: str, workdir: Workdir, stages: Sequence[str]) -> dict[str, Any]:
    """Every figure of the report, from the manifests of the finished stages and the metrics."""
    manifests = {stage: workdir.manifest(stage) for stage in stages}
    outputs = {stage: manifest.outputs for stage, manifest in manifests.items() if manifest is not None}
    teach, verify, train, evaluate = (outputs[stage] for stage in ("teach", "verify", "train", "evaluate"))
    before, after = train["heldout_before"], train["heldout_after"]
    soft = after["kl"] > 0
    return {
        "experiment": name,
        "heldout": {
            "kl_before": before["kl"] if soft else None,
            "kl_after": after["kl"] if soft else None,
            "cross_entropy_before": before["cross_entropy"],
            "cross_entropy_after": after["cross_entropy"],
            "accuracy_before": before["accuracy"],
            "accuracy_after": after["accuracy"],
            "tokens": after["loss_tokens"],
            "parts": heldout_parts(before, after),
        },
        "teacher": {
            "asked": sum(teach["asked"].values()),
            "asked_by_task": teach["asked"],
            "answered": teach["answered"],
            "kept": sum(verify["kept"].values()),
            "kept_by_task": verify["kept"],
            "rejected": verify["rejected"],
            "tests": verify["tests"],
            "ran_in_sandbox": verify["sandbox"],
            "prompt_tokens": teach["prompt_tokens"],
            "completion_tokens": teach["completion_tokens"],
            "dollars": teach["measured"]["dollars"],
        },
        "student": {name: train[name] for name in ("parameters", "layers", "steps", "tokens")},
        "shards": {name: outputs["shards"][name] for name in ("documents", "tokens", "tasks", "licences")},
        "seeds": {name: outputs["seeds"][name] for name in ("files", "seeds", "heldout_seeds", "kinds")},
        "everyday": {
            "prompts": evaluate["everyday_prompts"],
            "student_begins_program": evaluate["student_begins_program"],
            "teacher_begins_program": evaluate["teacher_begins_program"],
        },
        "benchmarks": evaluate.get("benchmarks", {}),
        "tokens_per_second": {
            "teach": teach["measured"].get("tokens_per_second"),
            "train": train["measured"]["tokens_per_second"],
            "student_decode": evaluate["measured"]["student_tokens_per_second"],
            "teacher_decode": evaluate["measured"]["teacher_tokens_per_second"],
        },
        "stages": {stage: {"seconds": manifest.seconds} for stage, manifest in manifests.items() if manifest},
    }


def heldout_parts(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """What is known of each part of the held-out documents, by name: language/python, task/explain, …"""
    parts = [name.removesuffix("/loss_tokens") for name in after if name.endswith("/loss_tokens")]
    return {
        part: {
            "cross_entropy_before": before[f"{part}/cross_entropy"],
            "cross_entropy_after": after[f"{part}/cross_entropy"],
            "accuracy_after": after[f"{part}/accuracy"],
            "tokens": after[f"{part}/loss_tokens"],
        }
        for part in parts
    }


def write_report(workdir: Workdir, figures: Mapping[str, Any]) -> list[Path]:
    """report.json, report.md, report.html and the picture they show; returns their paths."""
    metrics = read_metrics(workdir.folder("train") / "metrics.jsonl")
    completions = json.loads((workdir.folder("evaluate") / "everyday.json").read_text())
    picture = workdir.path / "report.svg"
    picture.write_text(loss_curves(metrics))
    pages = {
        "report.md": markdown_page(figures, completions, picture.name),
        "report.html": html_page(figures, completions, picture.read_text()),
    }
    write_json(workdir.path / "report.json", figures)
    for name, text in pages.items():
        (workdir.path / name).write_text(text)
    return [workdir.path / name for name in ("report.json", *pages, picture.name)]


def loss_curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    """SVG: training loss and held-out cross-entropy and KL over steps; below that the held-out cross-entropy of each
    task, and the learning rate."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # Without a fixed salt the same curves would give another file each time.
    with pyplot.rc_context({"svg.hashsalt": "demiurgic", "font.size": 9}):
        figure, (losses, by_task, rate) = pyplot.subplots(3, 1, figsize=(7.2, 7), sharex=True, height_ratios=[4, 3, 1])
        trained = [row for row in metrics if "loss" in row]
        losses.plot(_column(trained, "step"), _column(trained, "loss"), label="training loss", color="#8fa8c8", lw=1)
        held = [row for row in metrics if "heldout/cross_entropy" in row]
        for field, label, color in (
            ("heldout/cross_entropy", "held-out cross-entropy", "#1f4e8c"),
            ("heldout/kl", "held-out KL to the teacher", "#c2410c"),
        ):
            if any(row[field] for row in held):
                losses.plot(_column(held, "step"), _column(held, field), "o-", label=label, color=color, ms=3)
        losses.set_ylabel("nats per token")
        losses.set_ylim(bottom=0)
        losses.legend(frameon=False)
        losses.grid(alpha=0.25)
        for name in [name for name in (held[-1] if held else {}) if _TASK.fullmatch(name)]:
            points = [row for row in held if name in row]
            by_task.plot(_column(points, "step"), _column(points, name), "o-", label=name.split("/")[2], lw=1, ms=3)
        by_task.set_ylabel("held-out cross-entropy")
        by_task.set_ylim(bottom=0)
        by_task.legend(frameon=False, ncols=3)
        by_task.grid(alpha=0.25)
        rate.plot(_column(trained, "step"), _column(trained, "learning_rate"), color="#555")
        rate.set_ylabel("learning rate")
        rate.set_xlabel("step")
        rate.grid(alpha=0.25)
        figure.tight_layout()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return buffer.getvalue()


def _column(rows: Sequence[Mapping[str, Any]], field: str) -> list[float]:
    return [row[field] for row in rows]


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def tables(figures: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, column heads, rows) of every table that both pages show."""
    held, teacher, speed = figures["heldout"], figures["teacher"], figures["tokens_per_second"]
    return [
        *_benchmarks(figures["benchmarks"]),
        (
            "Held-out",
            ["", "before", "after"],
            [
                [label, _number(held[f"{field}_before"]), _number(held[f"{field}_after"])]
                for label, field in (
                    ("KL to the teacher (by the stored soft targets; of sampled ones a bound), nats per token", "kl"),
                    ("cross-entropy, nats per token", "cross_entropy"),
                    ("next-token accuracy", "accuracy"),
                )
            ],
        ),
        (
            "Held-out, by language and task",
            ["", "cross-entropy before", "after", "accuracy after", "tokens"],
            [
                [
                    part.replace("/", " "),
                    _number(each["cross_entropy_before"]),
                    _number(each["cross_entropy_after"]),
                    _number(each["accuracy_after"]),
                    f"{each['tokens']:,.0f}",
                ]
                for part, each in held["parts"].items()
            ],
        ),
        (
            "Teacher",
            ["", ""],
            [
                ["asked", f"{_number(teacher['asked'])} ({_counts(teacher['asked_by_task'])})"],
                ["answered", _number(teacher["answered"])],
                ["kept", f"{_number(teacher['kept'])} ({_counts(teacher['kept_by_task'])})"],
                ["rejected", _counts(teacher["rejected"])],
                [
                    "tests run in the sandbox",
                    _counts(teacher["tests"]) if teacher["ran_in_sandbox"] else "no sandbox here: parsed only",
                ],
                ["tokens in, out", f"{_number(teacher['prompt_tokens'])}, {_number(teacher['completion_tokens'])}"],
                ["spent", f"${teacher['dollars']:.2f}"],
            ],
        ),
        (
            "Student and data",
            ["", ""],
            [
                ["parameters", _number(figures["student"]["parameters"])],
                ["layers", _number(figures["student"]["layers"])],
                [
                    "trained on",
                    f"{_number(figures['student']['tokens'])} tokens, {figures['student']['steps']:,} steps",
                ],
                ["seeds", f"{_number(figures['seeds']['seeds'])} from {_number(figures['seeds']['files'])} files"],
                *(
                    [
                        f"{split} set",
                        f"{_number(count)} documents, {_number(figures['shards']['tokens'][split])} tokens",
                    ]
                    for split, count in figures["shards"]["documents"].items()
                ),
                ["licences", _counts(figures["shards"]["licences"]["train"])],
                ["data card", DATA_CARD],
            ],
        ),
        (
            "Speed, tokens per second",
            ["", ""],
            [
                ["teacher answering", _number(speed["teach"])],
                ["training", _number(speed["train"])],
                ["teacher decoding the everyday prompts", _number(speed["teacher_decode"])],
                ["student decoding the everyday prompts", _number(speed["student_decode"])],
            ],
        ),
        (
            "Stages, seconds",
            ["", ""],
            [[stage, _number(float(each["seconds"]))] for stage, each in figures["stages"].items()],
        ),
    ]


def _benchmarks(scored: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """One table where the student was scored on benchmarks; evaluate/benchmarks/report.html says more."""
    rows = []
    for name, each in scored.items():
        whole = each["whole"]
        if whole is None:
            rows.append([name, "0", "not run", ""])
            continue
        for k, interval in whole["pass_at"].items():
            around = f"{interval['low']:.1%} to {interval['high']:.1%}"
            rows.append([f"{name}, pass@{k}", _number(whole["problems"]), f"{interval['value']:.1%}", around])
    return [("Benchmarks", ["", "problems", "student", "95% interval"], rows)] if rows else []


def _verdict(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return "no answer"
    return "parses" if side["parses"] else "begins a program" if side["begins"] else "is not Python"


def _everyday_line(figures: Mapping[str, Any]) -> str:
    counts = figures["everyday"]
    return (
        f"Text that is Python, or begins some: student {counts['student_begins_program']}, "
        f"teacher {counts['teacher_begins_program']} of {counts['prompts']} everyday prompts."
    )


def markdown_page(figures: Mapping[str, Any], completions: Sequence[Mapping[str, Any]], picture: str) -> str:
    """The report as Markdown."""
    lines = [f"# {figures['experiment']}", "", f"![loss curves]({picture})", ""]
    for title, heads, rows in tables(figures):
        lines += [f"## {title}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        lines += [f"| {' | '.join(row)} |".replace(DATA_CARD, f"[{DATA_CARD}]({DATA_CARD})") for row in rows] + [""]
    lines += ["## Everyday prompts", "", _everyday_line(figures), ""]
    for row in completions:
        lines += [f"### {row['name']}", ""]
        for who in ("student", "teacher"):
            side = row[who]
            text = "" if side is None else row["prompt"] + side["completion"]
            # A fence longer than any in the text keeps the page whole.
            lines += [f"{who}, {_verdict(side)}:", "", "`````python", text, "`````", ""]
    return "\n".join(lines)


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.25rem .9rem .25rem 0;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}pre{background:#f6f7f9;padding:.7rem;overflow:auto;font-size:13px}
pre b{color:#8a8f98;font-weight:400}.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
.pair>div{min-width:0}svg{max-width:100%;height:auto}small{color:#666}
"""


def html_page(figures: Mapping[str, Any], completions: Sequence[Mapping[str, Any]], svg: str) -> str:
    """The report as one file without outside assets."""
    encoded = base64.b64encode(svg.encode()).decode()
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(figures['experiment'])}</title>",
        f"<style>{_STYLE}</style><h1>{html.escape(figures['experiment'])}</h1>",
        f'<img alt="loss curves" src="data:image/svg+xml;base64,{encoded}">',
    ]
    for title, heads, rows in tables(figures):
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads) if any(heads) else ""
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        body = body.replace(DATA_CARD, f'<a href="{DATA_CARD}">{DATA_CARD}</a>')
        parts.append(f"<h2>{html.escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    parts.append(f"<h2>Everyday prompts</h2><p>{html.escape(_everyday_line(figures))}</p>")
    for row in completions:
        parts.append(f"<h3>{html.escape(row['name'])}</h3><div class=pair>")
        for who in ("student", "teacher"):
            side = row[who]
            completion = "" if side is None else html.escape(side["completion"])
            parts.append(
                f"<div><small>{who}, {_verdict(side)}</small>"
                f"<pre><b>{html.escape(row['prompt'])}</b>{completion}</pre></div>"
            )
        parts.append("</div>")
    return "\n".join(parts) + "</html>\n"
