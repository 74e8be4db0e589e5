"""How often a run was started, and what of its time was not in vain.

`attempts.jsonl` lies beside `metrics.jsonl` and only grows: a line for each start, which a kill cannot take back.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

ATTEMPTS = "attempts.jsonl"


@dataclass(frozen=True)
class Attempt:
    """One start of a run. Times are Unix seconds; `previous_ended` is when the attempt before wrote its last metrics,
    None for the first."""

    began: float
    from_step: int
    previous_ended: float | None
    processes: int
    devices: int
    device_kind: str


@dataclass(frozen=True)
class RunHistory:
    """A run until its present attempt `began`: when it `started` for the first time, how many seconds its earlier
    attempts worked (`machine_seconds`), and in how many of all these the steps were made that still count
    (`useful_seconds`)."""

    started: float
    began: float
    machine_seconds: float = 0.0
    useful_seconds: float = 0.0


def begin_attempt(
    folder: Path,
    began: float,
    resume_from: int | None,
    rows: Sequence[Mapping[str, Any]],
    kept: Sequence[Mapping[str, Any]],
) -> RunHistory:
    """Writes this start down; returns what came before it.

    `rows` of the metrics are those of the attempt before, of which the `kept` ones will not be made again.
    """
    path = folder / ATTEMPTS
    earlier = read_attempts(path)
    ended = max((row["unix_time"] for row in rows if "unix_time" in row), default=None)
    attempt = Attempt(
        began=began,
        from_step=resume_from or 0,
        previous_ended=ended,
        processes=jax.process_count(),
        devices=jax.device_count(),
        device_kind=jax.devices()[0].device_kind,
    )
    with path.open("a") as file:
        # A line cut off by a kill must not swallow this one.
        file.write(("" if _ends_whole(path) else "\n") + json.dumps(asdict(attempt)) + "\n")
    started = earlier[0].began if earlier else began
    useful = [row["goodput"] * (row["unix_time"] - started) for row in kept if "goodput" in row]
    return RunHistory(started, began, machine_seconds([*earlier, attempt]), useful[-1] if useful else 0.0)


def machine_seconds(attempts: Sequence[Attempt], last_ended: float | None = None) -> float:
    """Seconds in which machines were at work, from each start to the last sign of life; of the last attempt only when
    `last_ended` is given."""
    ends = [attempt.previous_ended for attempt in attempts[1:]] + [last_ended]
    # An attempt that was killed before its first metrics left no sign of life of its own.
    return sum(max(0.0, (end or 0.0) - attempt.began) for attempt, end in zip(attempts, ends, strict=True))


def read_attempts(path: Path) -> list[Attempt]:
    """The starts of a run, oldest first; none when the file does not exist."""
    if not path.exists():
        return []
    attempts = []
    for line in path.read_text().splitlines():
        try:
            attempts.append(Attempt(**json.loads(line)))
        except json.JSONDecodeError:  # cut off by a kill
            continue
    return attempts


def _ends_whole(path: Path) -> bool:
    content = path.read_bytes()
    return not content or content.endswith(b"\n")
