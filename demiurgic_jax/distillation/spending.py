"""What a ledger's money went to, how fast, and what the rest will cost."""

import math
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demiurgic_jax.distillation.ledger_schema import VERSION, explained
from demiurgic_jax.distillation.pricing import NANODOLLARS, Price, prompt_tokens_likely
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.errors import UserError

# Answers of so many seconds before the last one give the rate.
_RATE_SECONDS = 300.0
# Of the room for an answer, what is used on average, until there are answers that say better.
LIKELY_SHARE = 0.5

_HEADS = """
SELECT {head}, count(*), sum(state = 'settled'), sum(state = 'failed'), sum(state = 'refused'),
    sum(state IN ('reserved', 'sent')), sum(attempts), sum(lost_attempts), sum(prompt_tokens), sum(completion_tokens),
    sum(reserved + lost + cost), sum(verdicts.kept), count(verdicts.kept)
FROM requests LEFT JOIN verdicts USING (key) GROUP BY {head} ORDER BY {head}
"""
_COLUMNS = (
    *("requests", "settled", "failed", "refused", "in_flight", "attempts", "lost_attempts"),
    *("prompt_tokens", "completion_tokens", "nanodollars", "kept", "judged"),
)


def spending(path: Path) -> dict[str, Any]:
    """Figures of a ledger, which may be in use: by task, model and language, rate, acceptance, and a projection.

    Raises UserError where there is no ledger, or one of another version.
    """
    if not path.is_file():
        raise UserError(f"{path.parent} holds no {path.name}: give the --workdir of a run that has begun to ask")
    with explained(path):
        rows = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60.0)
        try:
            version = rows.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise UserError(
                    f"ledger {path} has version {version}, this program reads version {VERSION}: use the program that "
                    "wrote it"
                )
            return _figures(rows)
        finally:
            rows.close()


def _figures(rows: sqlite3.Connection) -> dict[str, Any]:
    by = {
        head: {name: _head(values) for name, *values in rows.execute(_HEADS.format(head=head))}
        for head in ("task", "model", "language")
    }
    total = _head(next((values for _, *values in rows.execute(_HEADS.format(head="1"))), [0] * len(_COLUMNS)))
    reasons = rows.execute(
        "SELECT reason, count(*) FROM requests WHERE state IN ('failed', 'refused') GROUP BY reason ORDER BY 2 DESC"
    )
    rejected = rows.execute("SELECT reason, count(*) FROM verdicts WHERE NOT kept GROUP BY reason ORDER BY 2 DESC")
    doubted = rows.execute("SELECT coalesce(sum(doubted), 0) FROM requests").fetchone()[0]
    figures: dict[str, Any] = {
        "total": total,
        **{f"by_{head}": values for head, values in by.items()},
        "failures": dict(reasons.fetchall()),
        "rejections": dict(rejected.fetchall()),
        "doubted_usage": doubted,
        "answers_per_second": _rate(rows),
    }
    return figures | _projection(rows, figures)


def _head(values: Sequence[Any]) -> dict[str, Any]:
    counted = {name: value or 0 for name, value in zip(_COLUMNS, values, strict=True)}
    dollars = counted.pop("nanodollars") / NANODOLLARS
    accepted = counted["kept"] / counted["judged"] if counted["judged"] else None
    return counted | {"dollars": dollars, "acceptance": accepted}


def _rate(rows: sqlite3.Connection) -> float | None:
    last = rows.execute("SELECT max(settled_at) FROM requests").fetchone()[0]
    if last is None:
        return None
    count, first = rows.execute(
        "SELECT count(*), min(settled_at) FROM requests WHERE settled_at >= ?", (last - _RATE_SECONDS,)
    ).fetchone()
    return (count - 1) / (last - first) if count > 1 and last > first else None


def _projection(rows: sqlite3.Connection, figures: Mapping[str, Any]) -> dict[str, Any]:
    """What is still wanted costs what answers of its task, language and model cost so far on average, failures
    included; where there are none yet, what those of the whole run do."""
    done = {
        (task, language, model): (settled, ended, spent)
        for task, language, model, settled, ended, spent in rows.execute(
            "SELECT task, language, model, sum(state = 'settled'), sum(state IN ('settled', 'refused')), "
            "sum(lost + cost) FROM requests GROUP BY task, language, model"
        )
    }
    settled_all = figures["total"]["settled"]
    mean_all = sum(spent for _, _, spent in done.values()) / settled_all if settled_all else 0.0
    wanted_all = left_all = 0
    to_come = 0.0
    for task, language, model, wanted in rows.execute("SELECT * FROM plan"):
        settled, ended, spent = done.get((task, language, model), (0, 0, 0))
        left = max(0, wanted - ended)
        to_come += left * (spent / settled if settled else mean_all)
        wanted_all, left_all = wanted_all + wanted, left_all + left
    rate = figures["answers_per_second"]
    known = bool(settled_all) or not left_all
    return {
        "wanted": wanted_all,
        "left": left_all,
        "eta_seconds": left_all / rate if rate else None,
        "projected_dollars": figures["total"]["dollars"] + to_come / NANODOLLARS if known else None,
        "seconds_since_last_answer": _age(rows),
    }


def _age(rows: sqlite3.Connection) -> float | None:
    last = rows.execute("SELECT max(settled_at) FROM requests").fetchone()[0]
    return None if last is None else max(0.0, time.time() - last)


@dataclass(frozen=True)
class Forecast:
    """What one task of one model would cost: `likely` with answers as long as the mean of those that are known (else
    half of the room for them), `most` with the worst case of every request, in dollars."""

    task: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    likely: float
    most: float


def forecast(
    requests: Mapping[str, Sequence[TeacherRequest]], prices: Mapping[str, Price], mean_tokens: Mapping[str, float]
) -> list[Forecast]:
    """A line for each model and task. `requests` and `prices` are by model, `mean_tokens` of answers by task."""
    lines = []
    for model, asked in requests.items():
        for task in sorted({each.task for each in asked}):
            of_task = [each.request for each in asked if each.task == task]
            price = prices[model]
            tokens_in = sum(map(prompt_tokens_likely, of_task))
            tokens_out = math.ceil(
                sum(min(each.max_tokens, mean_tokens.get(task, LIKELY_SHARE * each.max_tokens)) for each in of_task)
            )
            lines.append(
                Forecast(
                    task,
                    model,
                    len(of_task),
                    tokens_in,
                    tokens_out,
                    price.cost(tokens_in, tokens_out) / NANODOLLARS,
                    sum(map(price.worst_case, of_task)) / NANODOLLARS,
                )
            )
    return lines
