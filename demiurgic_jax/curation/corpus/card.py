"""The data card of a corpus: what came in, what was left out where and why, whose the rest is, and how fast it went."""

import base64
import html
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from demiurgic_jax.curation.corpus.funnel import BLOCKS, Funnel
from demiurgic_jax.curation.corpus.parts import SUFFIX, read_rank

_TIMED = (
    *("reading", "quality", "marking", "exact duplicates", "signing", "near-duplicates"),
    *("syntax", "benchmarks", "redaction", "ordering"),
)


def write_card(name: str, funnel: Funnel, folder: Path) -> list[Path]:
    """DATA_CARD.md, DATA_CARD.html and the plot they show, funnel.svg, in `folder`; returns their paths."""
    licences, repositories = _contents(folder / "documents")
    sections = [
        ("Funnel", "Files and their MB before each step, by language.", _funnel_rows(funnel)),
        ("Left out, by reason", "Samples are in dropped/.", _reason_rows(funnel)),
        ("Licences", "Of the documents that are kept.", [["licence", "documents"], *_most(licences, 30)]),
        ("Repositories", "With the most documents.", [["repository", "documents"], *_most(repositories, 20)]),
        ("Placeholders", f"In {funnel.changed:,} documents.", [["kind", "number"], *_most(funnel.placeholders, 40)]),
        ("Speed", "Of one core, by its own time.", _speed_rows(funnel)),
    ]
    plot = folder / "funnel.svg"
    plot.write_text(_plot(funnel))
    markdown = [f"# Data card of the corpus: {name}", "", "![The funnel](funnel.svg)", ""]
    page = [f"<h1>Data card of the corpus: {html.escape(name)}</h1>", _image(plot)]
    for title, said, rows in sections:
        markdown += [f"## {title}", "", said, "", *_markdown(rows), ""]
        page += [f"<h2>{title}</h2><p>{said}</p>", _table(rows)]
    samples = _samples(folder / "dropped")
    page += ["<h2>Samples of what was left out</h2>", *samples]
    files = {"DATA_CARD.md": "\n".join(markdown), "DATA_CARD.html": _page("\n".join(page))}
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return [*(folder / file for file in files), plot]


def _contents(folder: Path) -> tuple[Counter[str], Counter[str]]:
    licences: Counter[str] = Counter()
    repositories: Counter[str] = Counter()
    for split in sorted(path for path in folder.glob("*") if path.is_dir()):
        for path in sorted(split.glob(f"*{SUFFIX}")):
            for document in read_rank(split, int(path.name.removesuffix(SUFFIX))):
                licences[document.metadata["licence"]] += 1
                repositories[document.metadata["repository"]] += 1
    return licences, repositories


def _funnel_rows(funnel: Funnel) -> list[list[str]]:
    blocks = [block for block in BLOCKS if funnel.entered(block).documents]
    rows = [["language", *(f"before {block}" for block in blocks), "kept"]]
    for language in (*funnel.languages(), None):
        amounts = [funnel.entered(block, language) for block in blocks] + [funnel.left(funnel.last_block(), language)]
        cells = [f"{amount.documents:,} / {amount.size / 1e6:,.1f}" for amount in amounts]
        rows.append([language or "all", *cells])
    return rows


def _reason_rows(funnel: Funnel) -> list[list[str]]:
    found = [[block, reason, f"{of.documents:,}", f"{of.size / 1e6:,.1f}"] for block, reason, of in funnel.reasons()]
    return [["step", "reason", "files", "MB"], *found]


def _speed_rows(funnel: Funnel) -> list[list[str]]:
    rows = [["step", "MB in", "core seconds", "MB/s"]]
    for block in _TIMED:
        seconds = funnel.cpu_seconds.get(block, 0.0)
        size = funnel.entered(_PASSES.get(block, block)).size / 1e6
        if seconds and size:
            rows.append([block, f"{size:,.1f}", f"{seconds:,.1f}", f"{size / seconds:,.1f}"])
    return rows


# Blocks that drop nothing see what another one sees, or lets through.
_PASSES = {
    "marking": "exact duplicates",
    "signing": "near-duplicates",
    "redaction": "benchmarks",
    "ordering": "benchmarks",
}


def _most(counts: Counter[str], number: int) -> list[list[str]]:
    return [[name, f"{count:,}"] for name, count in counts.most_common(number)]


def _plot(funnel: Funnel) -> str:
    """SVG: the share of each language's raw bytes that is kept, and where the rest went."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # Without a fixed salt the same figures would give another file each time.
    with pyplot.rc_context({"svg.hashsalt": "demiurgic", "font.size": 9}):
        languages = funnel.languages()[::-1]
        figure, axes = pyplot.subplots(figsize=(7.2, 1.2 + 0.4 * len(languages)))
        left = [0.0] * len(languages)
        blocks = [block for block in BLOCKS if funnel.lost(block).documents]
        for block in ("kept", *blocks):
            shares = []
            for language in languages:
                whole = funnel.entered("reading", language).size or 1
                last = funnel.left(funnel.last_block(), language) if block == "kept" else funnel.lost(block, language)
                shares.append(100 * last.size / whole)
            axes.barh(languages, shares, left=left, label=block if block == "kept" else f"left out by {block}")
            left = [sofar + share for sofar, share in zip(left, shares, strict=True)]
        axes.set_xlabel("% of the raw bytes")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=3, frameon=False)
        figure.tight_layout()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)
    return buffer.getvalue()


def _samples(folder: Path) -> Iterable[str]:
    for block in sorted(path for path in folder.glob("*") if path.is_dir()):
        shown: Counter[tuple[str, str]] = Counter()
        for path in sorted(block.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                row = json.loads(line)
                shown[row["language"], row["reason"]] += 1
                if shown[row["language"], row["reason"]] <= 2 and row["text"]:
                    said = f"{row['block']}: {row['reason']}, {row['language']}: {row['repository']}/{row['path']}"
                    text = html.escape(row["text"][:800].encode("utf-8", "replace").decode())
                    yield f"<details><summary>{html.escape(said)}</summary><pre>{text}</pre></details>"


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [head, f"|{'---|' * len(rows[0])}", *body]


def _table(rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(rows[0], "th") + "".join(line(row, "td") for row in rows[1:]) + "</table>"


def _image(plot: Path) -> str:
    data = base64.b64encode(plot.read_bytes()).decode()
    return f'<img alt="What is kept of each language" src="data:image/svg+xml;base64,{data}">'


def _page(body: str) -> str:
    style = (
        "body{font:15px/1.5 sans-serif;max-width:72em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}"
        "pre{background:#f6f6f6;padding:1em;overflow:auto}img{max-width:100%}"
    )
    return f'<!doctype html><meta charset="utf-8"><title>Data card</title><style>{style}</style>\n{body}\n'
